"""The demo's tasks, and the runs they must lead to, worked out before any worker starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from sisy_redis import clock, planning
from sisy_redis.scheduler import Scheduler
from sisy_redis.views import TaskView

_TASKS = "sisy_redis.demo.tasks"
_LEAD = timedelta(seconds=5)
_WINDOW = timedelta(seconds=14)
_SLOW_STEP = timedelta(seconds=2)
_SLOW_SECONDS = 2.5
SLOW = "slow-no-overlap"


@dataclass(frozen=True, slots=True)
class Seed:
    """A task to save and its nominal instants; None where the server sets the one instant when it is saved."""

    id: str
    function: str
    nominals: tuple[datetime, ...] | None
    fields: Mapping[str, Any]
    attempts: int = 1
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of a task: each occurrence one run, with so many attempts unless its worker is killed.

    ``may_skip``: an occurrence may instead be recorded as skipped because another run was open.
    """

    id: str
    run_ids: tuple[str, ...]
    attempts: int
    may_skip: bool = False


def sow(scheduler: Scheduler, journal: Path) -> list[Expected]:
    """Saves one task of every kind and returns what to expect of each."""
    start = clock.from_ms(clock.wall_ms()).replace(microsecond=0) + _LEAD
    return [_saved(scheduler, seed, journal) for seed in seeds(start)]


def seeds(start: datetime) -> list[Seed]:
    """One task of every kind, all of them over within half a minute after ``start``, a whole second."""
    end = start + _WINDOW
    window = {"start_running": start, "end_running": end}
    every_two = "* * * * * */2"
    once = {"schedule": "@once"}
    slow_fields = {"every": _SLOW_STEP, "anchor": start, "allow_overlap": False} | window
    delayed = start + timedelta(seconds=6)
    return [
        Seed("cron-with-seconds", "quick", _cron(every_two, start, end), {"schedule": every_two} | window),
        Seed("interval", "coroutine", _steps(start, timedelta(seconds=3), end), _interval(3, start) | window),
        Seed("iterations", "quick", _cron("* * * * * *", start, end)[:7], _iterations(7, start)),
        Seed("one-shot", "quick", None, once),
        Seed("delayed", "quick", (delayed,), once | {"start_running": delayed}),
        Seed("failing", "fails_twice", (start,), once | {"start_running": start, "retry": (3, 1)}, attempts=3),
        Seed(SLOW, "slow", _steps(start, _SLOW_STEP, end), slow_fields, data={"seconds": _SLOW_SECONDS}),
    ]


def _interval(seconds: int, anchor: datetime) -> dict[str, Any]:
    return {"every": timedelta(seconds=seconds), "anchor": anchor}


def _iterations(number: int, start: datetime) -> dict[str, Any]:
    return {"schedule": "* * * * * *", "iterations": number, "start_running": start}


def _cron(schedule: str, start: datetime, end: datetime) -> tuple[datetime, ...]:
    most = int((end - start).total_seconds()) + 1
    found = planning.upcoming(schedule, after=start - timedelta(milliseconds=1), n=most)
    return tuple(instant.astimezone(UTC) for instant in found if instant < end)


def _steps(first: datetime, step: timedelta, end: datetime) -> tuple[datetime, ...]:
    return tuple(takewhile(lambda instant: instant < end, (first + i * step for i in count())))


def _saved(scheduler: Scheduler, seed: Seed, journal: Path) -> Expected:
    data = {"journal": str(journal), **seed.data}
    view = scheduler.save(f"{_TASKS}.{seed.function}", id=seed.id, userdata=data, tz="UTC", **seed.fields)
    nominals = (_only_instant(view),) if seed.nominals is None else seed.nominals
    runs = tuple(f"{seed.id}:{view.stored.generation}:{clock.to_ms(nominal)}" for nominal in nominals)
    return Expected(seed.id, runs, seed.attempts, may_skip=not view.allow_overlap)


def _only_instant(view: TaskView) -> datetime:
    if view.next_run is None:
        raise RuntimeError(f"the task {view.id} was saved, but is not due")
    return view.next_run
