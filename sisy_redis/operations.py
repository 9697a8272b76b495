"""What users do to tasks, as steps of calls: pure generators that the synchronous and the asynchronous transport drive alike."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sisy_redis import calls, codec, planning
from sisy_redis.calls import Save, Saved
from sisy_redis.definitions import Definition, Plan, Seal, Stored
from sisy_redis.errors import ConflictError, DoesNotExist, SignatureError, SisyError, StaleToken, TaskBusy, TaskError
from sisy_redis.keys import Space, task_id_of
from sisy_redis.queries import load_plans, load_records, page_of_waiting
from sisy_redis.transport import Steps

_SPARE_FIELDS = ("iterations",)
_SCHEDULE_FIELDS = (
    "schedule",
    "tz",
    "dst",
    "anchor_ms",
    "start_ms",
    "end_ms",
    "min_gap_ms",
    "jitter_ms",
    "enabled",
)
# What needs no new signature.
_SEALED = (Seal.UNCHECKED, Seal.CURRENT)
_BATCH = 50
_ROUND_TRIP_MS = 1_000
_TRIES = 8


def new_op(now_ms: int) -> str:
    """An operation id: the server's time and a random part."""
    return f"{now_ms}-{secrets.token_hex(6)}"


def new_id() -> str:
    """A task id nobody chose."""
    return secrets.token_hex(8)


def beside(definition: Definition, base: Definition | None, now_ms: int) -> str:
    """The instant beside the schedule that a save sends, as ``calls.Save`` takes it.

    A one-off has no other; ``wait_for_schedule=False`` puts one before the schedule's own, on creation only. While nobody has
    decided it, an edit keeps it, and moves it with the task's start.
    """
    is_once = planning.is_once(definition.schedule)
    if not is_once and definition.wait_for_schedule:
        return ""
    at = "now" if definition.start_ms <= now_ms else str(definition.start_ms)
    if base is None or (is_once and not planning.is_once(base.schedule)):
        return at
    return "keep" if definition.start_ms == base.start_ms else f"?{at}"


def _save_of(
    definition: Definition,
    base: Stored | None,
    op: str,
    now_ms: int,
    *,
    previous_ms: int | None = None,
    needs_plan: bool = False,
) -> Save:
    known = base.definition if base else None
    changed = {f for f in (*_SCHEDULE_FIELDS, *_SPARE_FIELDS) if known and getattr(definition, f) != getattr(known, f)}
    if known and not changed and not needs_plan:
        return Save(op=op, definition=definition, base=base, plan=None, planned_from_ms=now_ms)
    first = beside(definition, known, now_ms)
    if first and first != "keep":
        at = first.removeprefix("?")
        # The script's now is a little later than this one, and what follows keeps its distance from that.
        at_ms = now_ms + _ROUND_TRIP_MS if at == "now" else int(at)
        previous_ms = at_ms if previous_ms is None else max(at_ms, previous_ms)
    is_once = planning.is_once(definition.schedule)
    plan = Plan((), True) if is_once else planning.plan(definition, now_ms, previous_ms=previous_ms)
    is_spare = bool(changed) and not needs_plan and changed <= set(_SPARE_FIELDS)
    return Save(
        op=op, definition=definition, base=base, plan=plan, planned_from_ms=now_ms, is_spare=is_spare, beside=first
    )


def _previous(space: Space, bases: Iterable[Stored | None]) -> Steps[dict[str, int]]:
    """For stored tasks with a least gap between their fires: the instant the next ones have to keep it from."""
    gapped = [base for base in bases if base is not None and base.definition.min_gap_ms]
    if not gapped:
        return {}
    found = yield from load_plans(space, gapped)
    latest: dict[str, int] = {}
    for task_id, state in found.items():
        beside_ms = state.plan.segments[0].first_ms if state.plan.has_beside else None
        instants = [instant for instant in (state.admitted_ms, beside_ms) if instant is not None]
        if instants:
            latest[task_id] = max(instants)
    return latest


def _anchored(definition: Definition, base: Stored | None, now_ms: int) -> Definition:
    if not definition.schedule.startswith("@every") or definition.anchor_ms is not None:
        return definition
    is_kept = base and base.definition.schedule == definition.schedule and not codec.distrust(base)
    kept = base.definition.anchor_ms if base and is_kept else None
    return replace(definition, anchor_ms=now_ms if kept is None else kept)


def _is_same(one: Definition, other: Definition) -> bool:
    # Python takes 1, 1.0 and True in userdata for equal; what is stored tells them apart.
    return one == other and codec.encode(one) == codec.encode(other)


def _check_times(definition: Definition, base: Stored | None, now_ms: int) -> None:
    before = base.definition if base else None
    is_new_start = before is None or before.start_ms != definition.start_ms
    if is_new_start and 0 < definition.start_ms < now_ms:
        raise TaskError("Task cannot start running in the past: give a start in the future, or none to start at once")
    is_new_end = before is None or before.end_ms != definition.end_ms
    if is_new_end and definition.end_ms <= now_ms:
        raise TaskError("Task cannot end running in the past: give an end in the future")


def save_all(space: Space, definitions: Sequence[Definition], *, upsert: bool = True) -> Steps[list[Stored]]:
    """Creates or changes tasks by id, each idempotently; a task that is stored as given already is left alone.

    Every definition is checked before anything is stored. With ``upsert=False`` an existing id raises ConflictError.
    """
    for definition in definitions:
        planning.check_schedule(definition)
    done: dict[str, Stored] = {}
    todo = {d.id: d for d in definitions}
    retry: dict[str, str] = {}
    for _ in range(_TRIES):
        now_ms, bases = yield from load_records(space, list(todo))
        previous = yield from _previous(space, bases.values())
        saves = []
        for task_id, wanted in list(todo.items()):
            base = bases.get(task_id)
            if base and not upsert:
                raise ConflictError(f"a task with the id {task_id!r} exists already")
            definition = _anchored(wanted, base, now_ms)
            _check_times(definition, base, now_ms)
            if base and _is_same(base.definition, definition) and base.seal in _SEALED:
                done[task_id] = base
                del todo[task_id]
            else:
                needs_plan = retry.get(task_id) == "replan"
                before = previous.get(task_id)
                saves.append(
                    _save_of(definition, base, new_op(now_ms), now_ms, previous_ms=before, needs_plan=needs_plan)
                )
        stored, retry = yield from _send_saves(space, saves)
        done |= stored
        todo = {task_id: todo[task_id] for task_id in retry}
        if not todo:
            return [done[d.id] for d in definitions]
    raise ConflictError(
        f"{len(todo)} tasks kept being changed by others, {next(iter(todo))!r} among them; save them again"
    )


def _send_saves(space: Space, saves: Sequence[Save]) -> Steps[tuple[dict[str, Stored], dict[str, str]]]:
    by_partition: dict[int, list[Save]] = {}
    for save in saves:
        by_partition.setdefault(space.partition_of(save.definition.id).index, []).append(save)
    groups = [
        (index, group[i : i + _BATCH]) for index, group in by_partition.items() for i in range(0, len(group), _BATCH)
    ]
    answers = (yield [calls.save(space.partition(index), group) for index, group in groups]) if groups else []
    stored, retry, is_head = {}, {}, False
    for (_, group), rows in zip(groups, answers, strict=True):
        for save, row in zip(group, rows, strict=True):
            if row.status == "saved":
                stored[save.definition.id] = Stored(save.definition, row.generation, row.version)
                is_head = is_head or row.is_head
                yield from _take_along(space, save)
            else:
                retry[save.definition.id] = row.status
    if is_head:
        yield [calls.wake(space, 1)]
    return stored, retry


def edit(
    space: Space,
    loaded: Stored,
    change: Callable[[Definition, Definition], Definition],
    *,
    boot: str = "0",
    run_id: str = "",
    token: int = 0,
) -> Steps[Stored]:
    """Applies ``change(current, loaded)`` to what is stored now, by compare-and-set.

    Raises DoesNotExist when the task is gone, ConflictError from ``change`` when the same field was changed by another,
    StaleToken when ``run_id`` and ``token`` are given and the run lost its lease.
    """
    task_id = loaded.definition.id
    partition = space.partition_of(task_id)
    needs_plan = False
    for _ in range(_TRIES):
        now_ms, bases = yield from load_records(space, [task_id])
        base = bases.get(task_id)
        if base is None or base.generation != loaded.generation:
            raise _gone(task_id)
        distrust = codec.distrust(base)
        if distrust:
            # To sign one's own change with what is stored would vouch for what others wrote there.
            raise SignatureError(f"task {task_id!r}: its record {distrust}; save its full definition to replace it")
        definition = _anchored(change(base.definition, loaded.definition), base, now_ms)
        if _is_same(base.definition, definition) and not run_id and base.seal in _SEALED:
            return base
        planning.check_schedule(definition)
        _check_times(definition, base, now_ms)
        before = (yield from _previous(space, [base])).get(task_id)
        wanted = _save_of(definition, base, new_op(now_ms), now_ms, previous_ms=before, needs_plan=needs_plan)
        save = replace(wanted, run_id=run_id, token=token)
        ((row,),) = yield [calls.save(partition, [save], boot)]
        saved: Saved = row
        if saved.status == "saved":
            yield from _take_along(space, save)
            if saved.is_head:
                yield [calls.wake(space, 1)]
            return Stored(definition, saved.generation, saved.version)
        if saved.status == "stale":
            raise StaleToken(f"run {run_id} lost its lease: its writes are refused")
        needs_plan = saved.status == "replan"
    raise ConflictError(f"task {task_id!r} kept being changed by others; save it again")


def _take_along(space: Space, save: Save) -> Steps[None]:
    """Waiting runs follow their task to another queue: the old one may have no workers any more."""
    if save.base is None or save.base.definition.queue == save.definition.queue:
        return
    partition, old, new = space.partition_of(save.definition.id), save.base.definition.queue, save.definition.queue
    cursor: int | None = None
    while cursor != 0:
        cursor, runs = yield from page_of_waiting(partition, old, cursor or 0)
        mine = [run_id for run_id in runs if task_id_of(run_id) == save.definition.id]
        if mine:
            yield [calls.move(partition, run_id, old, new) for run_id in mine]


def delete(space: Space, stored: Stored) -> Steps[bool]:
    """Deletes a task; False when it was gone already."""
    task_id = stored.definition.id
    for _ in range(_TRIES):
        (now_ms,) = yield [calls.server_time(space)]
        (status,) = yield [calls.delete(space.partition_of(task_id), new_op(now_ms), stored)]
        if status in ("deleted", "gone"):
            return bool(status == "deleted")
        _, bases = yield from load_records(space, [task_id])
        if task_id not in bases:
            return False
        stored = replace(bases[task_id], generation=stored.generation)
    raise SisyError(f"task {task_id!r} could not be deleted: it kept moving between queues; delete it again")


def trigger(space: Space, stored: Stored, *, counts: bool = False) -> Steps[str]:
    """Admits an extra run now and returns its id. ``counts``: it costs an iteration.

    Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist when it is gone or has ended.
    """
    task_id = stored.definition.id
    for _ in range(_TRIES):
        (now_ms,) = yield [calls.server_time(space)]
        call = calls.trigger(space.partition_of(task_id), new_op(now_ms), stored, counts=counts)
        ((status, run_id),) = yield [call]
        if status == "triggered":
            yield [calls.wake(space, 1)]
            return str(run_id)
        if status == "busy":
            raise TaskBusy(
                f"task {task_id!r} forbids overlap and has an open run; trigger it again when that has ended"
            )
        if status == "expired":
            raise too_late()
        if status != "moved":
            raise _gone(task_id)
        stored = yield from reloaded(space, stored)
    raise ConflictError(f"task {task_id!r} kept moving between queues; trigger it again")


def pause(space: Space, stored: Stored, by: str = "", reason: str = "", until_ms: int | None = None) -> Steps[None]:
    """Holds the schedule until ``resume``, or until ``until_ms``. Raises DoesNotExist."""
    partition = space.partition_of(stored.definition.id)
    yield from _applied(space, stored, lambda op, current: calls.pause(partition, op, current, by, reason, until_ms))


def skip_next(space: Space, stored: Stored, count: int) -> Steps[None]:
    """Lets the next ``count`` occurrences go. Raises DoesNotExist."""
    partition = space.partition_of(stored.definition.id)
    yield from _applied(space, stored, lambda op, current: calls.skip(partition, op, current, count))


def maintain(space: Space, from_ms: int, until_ms: int, by: str, reason: str) -> Steps[None]:
    """Sets the namespace's maintenance window (from now where ``from_ms`` is 0), or ends it with ``until_ms`` 0."""
    (now_ms,) = yield [calls.server_time(space)]
    begin = from_ms or now_ms
    answers = yield [calls.maintain(p, new_op(now_ms), begin, until_ms, by, reason) for p in space.all_partitions()]
    if "expired" in answers:
        raise too_late()
    yield [calls.wake(space, 1)]


def resume(space: Space, stored: Stored) -> Steps[None]:
    """Lets the schedule go on, strictly after now. Raises DoesNotExist."""
    partition = space.partition_of(stored.definition.id)
    yield from _applied(space, stored, lambda op, current: calls.resume(partition, op, current))
    yield [calls.wake(space, 1)]


def _applied(space: Space, stored: Stored, call_of: Callable[[str, Stored], calls.Call[str]]) -> Steps[None]:
    """Sends the call, and again with what is stored now where the task was changed since it was loaded."""
    for _ in range(_TRIES):
        (now_ms,) = yield [calls.server_time(space)]
        (status,) = yield [call_of(new_op(now_ms), stored)]
        if status == "gone":
            raise _gone(stored.definition.id)
        if status == "expired":
            raise too_late()
        if status != "moved":
            return
        stored = yield from reloaded(space, stored)
    raise ConflictError(f"task {stored.definition.id!r} kept being changed by others; repeat it")


def reloaded(space: Space, stored: Stored) -> Steps[Stored]:
    """What is stored now of the same generation."""
    task_id = stored.definition.id
    _, bases = yield from load_records(space, [task_id])
    if task_id not in bases or bases[task_id].generation != stored.generation:
        raise _gone(task_id)
    return bases[task_id]


def too_late() -> SisyError:
    """What is raised where an operation id was refused for its age."""
    return SisyError("the operation took too long to reach Redis and was refused; repeat it")


def _gone(task_id: str) -> DoesNotExist:
    return DoesNotExist(f"task {task_id!r} is gone: it was deleted, or has ended")
