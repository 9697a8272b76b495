"""The tasks of a chaos run: every kind, and for each what the checker has to know of it."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jobs
from history import Once, Periodic

from sisy_redis.definitions import Definition
from sisy_redis.scheduler import define

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """A task before it is saved. ``delay_ms``: a one-off so long after it is saved."""

    id: str
    func: Callable[..., Any]
    schedule: Periodic | None = None
    delay_ms: int = 0
    seconds: float = 0
    is_dynamic: bool = False
    attempts: int = 0
    fields: dict[str, Any] = field(default_factory=dict)

    def instants(self, now_ms: int) -> Periodic | Once:
        return self.schedule or Once(now_ms + self.delay_ms)

    def definition(self, journal: str, instants: Periodic | Once, note: int = 0) -> Definition:
        """What to save; ``note`` is userdata that changes nothing else."""
        userdata = {"journal": journal, "seconds": self.seconds, "note": note}
        timing: dict[str, Any] = {"schedule": "@once"}
        if isinstance(instants, Once):
            timing["start_running"] = EPOCH + timedelta(milliseconds=instants.at_ms)
        else:
            timing = timing_of(instants)
        return define(
            self.func, id=self.id, label=self.id.partition("-")[0], userdata=userdata, **timing, **self.fields
        )

    @property
    def forbids_overlap(self) -> bool:
        return self.fields.get("allow_overlap") is False


def timing_of(instants: Periodic) -> dict[str, Any]:
    """A cron expression where one says the same, else an interval with an anchor."""
    step, offset = instants.step_ms, instants.offset_ms
    if step == 60_000 and offset % 1000 == 0:
        return {"schedule": f"* * * * * {offset // 1000}" if offset else "* * * * *"}
    if offset == 0 and step % 1000 == 0 and 60 % (step // 1000) == 0:
        return {"schedule": f"* * * * * */{step // 1000}"}
    return {"every": timedelta(milliseconds=step), "anchor": EPOCH + timedelta(milliseconds=offset)}


ALONE = {"allow_overlap": False}


def catalog(rng: random.Random, seconds: float) -> list[Kind]:
    """About 250 tasks; one-offs and iterations are spread over the run."""
    kinds = [*_plain(), *_policies(), *_failing()]
    for i in range(20):
        step = rng.choice((1000, 2000, 3000))
        total = max(3, int(rng.uniform(0.2, 0.6) * seconds * 1000 / step))
        func = rng.choice((jobs.work, jobs.work_coroutine))
        counted = {"iterations": total, "allow_overlap": i % 2 == 0}
        kinds.append(Kind(f"counted-{i}", func, Periodic(step), fields=counted))
    for i in range(25):
        delay = int(rng.uniform(0.05, 0.9) * seconds * 1000)
        kinds.append(Kind(f"once-{i}", jobs.work_coroutine if i % 2 else jobs.work, delay_ms=delay, seconds=0.2))
    kinds.append(Kind("poison-0", jobs.kill_worker, delay_ms=int(0.2 * seconds * 1000)))
    for i in range(24):
        fields: dict[str, Any] = ALONE if i % 2 else {}
        func = jobs.work_coroutine if i % 3 else jobs.work
        kinds.append(Kind(f"edited-{i}", func, Periodic(3000), seconds=0.1, is_dynamic=True, fields=fields))
    return kinds


def _many(name: str, number: int, func: Callable[..., Any], *steps: int, **more: Any) -> Iterator[Kind]:
    for i in range(number):
        yield Kind(f"{name}-{i}", func, Periodic(steps[i % len(steps)]), **more)


def _plain() -> Iterator[Kind]:
    yield from _many("cron_thread", 15, jobs.work, 3000, 5000, 10_000)
    yield from _many("cron_coroutine", 20, jobs.work_coroutine, 2000, 5000, 10_000, 60_000)
    yield from _many("alone_thread", 10, jobs.work, 3000, 5000, seconds=0.2, fields=ALONE)
    yield from _many("alone_coroutine", 20, jobs.work_coroutine, 2000, 3000, 5000, seconds=0.3, fields=ALONE)
    yield from _many("every", 20, jobs.work_coroutine, 1700, 4500, 7100)
    yield from _many("every_alone", 15, jobs.work_coroutine, 2300, 4900, 7700, fields=ALONE)
    for i in range(15):
        yield Kind(f"minute-{i}", jobs.work, Periodic(60_000, 4000 * i))
    yield from _many("slow_alone", 10, jobs.work_coroutine, 1000, 2000, seconds=2.5, fields=ALONE)
    yield from _many("slow_thread", 5, jobs.work, 2000, seconds=3, fields=ALONE)
    yield from _many("slow_together", 5, jobs.work_coroutine, 3000, seconds=4)
    yield from _many("process", 3, jobs.work, 10_000, seconds=0.2, fields={"pool": "process", **ALONE})


def _policies() -> Iterator[Kind]:
    yield from _many("catching_up", 5, jobs.work_coroutine, 5000, fields={"misfire": "all", "misfire_grace": 1})
    few = {"misfire": "all", "misfire_grace": 1, "max_catchup": 5, **ALONE}
    yield from _many("catching_few", 3, jobs.work_coroutine, 3000, fields=few)
    yield from _many("skipping", 5, jobs.work_coroutine, 4000, fields={"misfire": "skip", "misfire_grace": 1})
    yield from _many("window", 2, jobs.work_coroutine, 4000, fields={"misfire_grace": 1, "catchup_window": 10})
    yield from _many("jittered", 5, jobs.work_coroutine, 10_000, fields={"jitter": 3})


def _failing() -> Iterator[Kind]:
    retry = {"retry": (3, 0.3)}
    yield from _many("failing", 8, jobs.fail, 6000, attempts=3, fields={**retry, **ALONE})
    yield from _many("failing_once", 5, jobs.fail_at_first, 7000, fields={**retry, **ALONE})
    cut = {"timeout": 1.0, **ALONE}
    yield from _many("timeout", 4, jobs.work_coroutine, 5000, seconds=5, fields=cut)
    yield from _many("timeout_retry", 2, jobs.work_coroutine, 7000, seconds=5, fields={**cut, "retry": (2, 0.5)})
    yield from _many("timeout_thread", 2, jobs.work, 8000, seconds=2, fields=cut)
    yield Kind("timeout_process-0", jobs.work, Periodic(15_000), seconds=30, fields={**cut, "pool": "process"})
