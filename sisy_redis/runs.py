"""What users do to runs: cancel one, and requeue or forget a dead one. Pure generators, like ``operations``."""

from collections.abc import Sequence
from dataclasses import replace

from sisy_redis import calls, codec, planning
from sisy_redis.clock import FAR_FUTURE_MS
from sisy_redis.errors import ConflictError, DoesNotExist, SignatureError, TaskBusy
from sisy_redis.inspection import DeadRun, dead_run
from sisy_redis.keys import Space, task_id_of
from sisy_redis.operations import new_id, new_op, save_all, too_late
from sisy_redis.queries import grouped, load_plans, load_records
from sisy_redis.transport import Steps

_TRIES = 8
_BATCH = 100


def cancel(space: Space, run_id: str, by: str = "", reason: str = "") -> Steps[str]:
    """Ends a run: "cancelled" when it waited, "requested" when it is live and its worker was asked, "gone" when it had ended."""
    partition = space.partition_of(task_id_of(run_id))
    queue = "default"
    for _ in range(_TRIES):
        (now_ms,) = yield [calls.server_time(space)]
        ((status, other),) = yield [calls.cancel(partition, new_op(now_ms), run_id, queue, by, reason)]
        if status == "expired":
            raise too_late()
        if status != "elsewhere":
            return str(status)
        queue = other
    raise ConflictError(f"run {run_id!r} kept moving between queues; cancel it again")


def requeue(space: Space, run_id: str) -> Steps[str]:
    """Gives a dead run another chance; the id of the run that will be tried.

    That is the run itself, or where its task is gone, the run of a one-off made from the task as it was. Raises DoesNotExist
    when there is no such dead run, TaskBusy when the task has as many open runs as it may.
    """
    task_id = task_id_of(run_id)
    partition = space.partition_of(task_id)
    for _ in range(_TRIES):
        dead = yield from dead_run(partition, run_id)
        if dead is None:
            raise DoesNotExist(f"no dead run has the id {run_id!r}")
        now_ms, bases = yield from load_records(space, [task_id])
        queue = bases[task_id].definition.queue if task_id in bases else "default"
        (status,) = yield [calls.requeue(partition, new_op(now_ms), run_id, queue)]
        if status == "requeued":
            yield [calls.wake(space, 1)]
            return run_id
        if status == "busy":
            raise TaskBusy(f"task {task_id!r} has as many open runs as it may; requeue {run_id!r} when one has ended")
        if status == "expired":
            raise too_late()
        if status == "ended":
            return (yield from _revive(space, dead))
    raise ConflictError(f"run {run_id!r} kept changing; requeue it again")


def _revive(space: Space, dead: DeadRun) -> Steps[str]:
    """A one-off with the callable, userdata and policies of a task that is gone."""
    stored = codec.decode(dead.task_id, dead.record, space.signer)
    distrust = codec.distrust(stored)
    if distrust is not None:
        # Saving it would sign what somebody else may have written.
        raise SignatureError(
            f"dead run {dead.run_id!r}: the record of its task {distrust}; forget it, or save the task anew"
        )
    was = stored.definition
    once = replace(
        was,
        id=new_id(),
        schedule=planning.ONCE,
        anchor_ms=None,
        iterations=1,
        start_ms=0,
        end_ms=FAR_FUTURE_MS,
        enabled=True,
    )
    (saved,) = yield from save_all(space, [once])
    yield [calls.bury(space.partition_of(dead.task_id), [dead.run_id])]
    plans = yield from load_plans(space, [saved])
    nominal_ms = 0
    if once.id in plans:
        state = plans[once.id]
        nominal_ms = state.plan.segments[0].first_ms if state.plan.segments else state.admitted_ms or 0
    return f"{once.id}:{saved.generation}:{nominal_ms}"


def bury(space: Space, run_ids: Sequence[str]) -> Steps[int]:
    """Forgets dead runs; how many there were."""
    count = 0
    for p, group in grouped(space, run_ids, task_id_of):
        for start in range(0, len(group), _BATCH):
            (buried,) = yield [calls.bury(p, group[start : start + _BATCH])]
            count += buried
    return count


def purge(space: Space, older_than_ms: int) -> Steps[dict[str, int]]:
    """Forgets ledger lines, reports and dead runs that are older than that; how many entries and dead runs there were."""
    (now_ms,) = yield [calls.server_time(space)]
    found = {"entries": 0, "dead": 0}
    for p in space.all_partitions():
        has_more = True
        while has_more:
            ((entries, dead, has_more),) = yield [calls.purge(p, now_ms - older_than_ms)]
            found["entries"] += entries
            found["dead"] += dead
    return found
