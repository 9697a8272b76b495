"""Running past instants of a task again: the steps, and how far a backfill is. Pure generators, like ``operations``."""

import secrets
from dataclasses import dataclass, replace

from sisy_redis import calls, planning
from sisy_redis.calls import read, text
from sisy_redis.definitions import Definition, Plan, Stored
from sisy_redis.errors import ConflictError, DoesNotExist, TaskBusy, TaskError
from sisy_redis.keys import Space
from sisy_redis.operations import new_op, reloaded, too_late
from sisy_redis.queries import plain
from sisy_redis.transport import Steps

__all__ = ["Backfill", "current", "end", "instants", "start"]

_MOST_SEGMENTS = 500
_MOST_RUNS = 100_000
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Backfill:
    """How far a backfill is: ``total`` instants, of which ``ended`` have run (``failed`` of them not well), ``open`` now run."""

    id: str
    task_id: str
    total: int
    ended: int
    failed: int
    open: int
    max_running: int


def instants(definition: Definition, start_ms: int, end_ms: int) -> tuple[Plan, int]:
    """The instants of a task's schedule in [start, end), and how many they are.

    Its own start and end do not count. Raises TaskError where there are none, or more than a backfill takes.
    """
    if planning.is_once(definition.schedule):
        raise TaskError("a one-off has no past instants to run again; trigger it instead")
    if start_ms >= end_ms:
        raise TaskError("a backfill's end must be later than its start")
    bounded = replace(definition, start_ms=start_ms, end_ms=end_ms)
    horizon_ms = end_ms - start_ms
    plan = planning.plan(bounded, start_ms - 1, horizon_ms=horizon_ms, max_segments=_MOST_SEGMENTS + 1)
    total = sum(segment.count or 0 for segment in plan.segments)
    if not total:
        raise TaskError("the schedule has no instant between the backfill's start and end")
    if not plan.complete or len(plan.segments) > _MOST_SEGMENTS or total > _MOST_RUNS:
        raise TaskError(
            f"a backfill takes at most {_MOST_RUNS} instants, or {_MOST_SEGMENTS} irregular ones; give a shorter range"
        )
    return plan, total


def start(space: Space, stored: Stored, start_ms: int, end_ms: int, max_running: int) -> Steps[str]:
    """Begins a backfill and returns its id. Raises TaskBusy when the task has one already, DoesNotExist, TaskError."""
    plan, total = instants(stored.definition, start_ms, end_ms)
    task_id, name = stored.definition.id, secrets.token_hex(4)
    for _ in range(_TRIES):
        (now_ms,) = yield [calls.server_time(space)]
        if end_ms > now_ms:
            raise TaskError("a backfill ends in the past; what is still to come runs by itself")
        op = new_op(now_ms)
        (status,) = yield [calls.backfill(space.partition_of(task_id), op, stored, name, max_running, total, plan)]
        if status == "started":
            yield [calls.wake(space, max_running)]
            return name
        if status == "busy":
            raise TaskBusy(f"task {task_id!r} has a backfill already; end that first, or wait for it")
        if status == "expired":
            raise too_late()
        stored = yield from reloaded(space, stored)
    raise ConflictError(f"task {task_id!r} kept moving between queues; start the backfill again")


def end(space: Space, task_id: str, name: str) -> Steps[None]:
    """Lets no further run of a backfill begin. Raises DoesNotExist when it has ended."""
    (status,) = yield [calls.unbackfill(space.partition_of(task_id), task_id, name)]
    if status == "gone":
        raise DoesNotExist(f"task {task_id!r} has no backfill {name!r}: it has ended")


def current(space: Space, task_id: str) -> Steps[Backfill | None]:
    """The backfill of a task that is going on."""
    (row,) = yield [read(plain, "HGET", space.partition_of(task_id).key("backfills"), task_id)]
    if row is None:
        return None
    name, _, max_running, running, ended, failed, total, *_ = text(row).split(" ")
    return Backfill(name, task_id, int(total), int(ended), int(failed), int(running), int(max_running))
