"""Looks at a whole namespace for what cannot be, and mends it. Reads everything, a page at a time: not for hot paths."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sisy_redis import calls, codec, operations, planning
from sisy_redis.calls import Call, Save, read, text
from sisy_redis.definitions import Stored
from sisy_redis.keys import TASK_FACTS, Partition, Space, task_id_of
from sisy_redis.queries import pairs, plain
from sisy_redis.transport import Steps

__all__ = ["Finding", "examine"]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that cannot be. ``is_mended`` is None where it was not tried, or cannot be mended from here."""

    partition: int
    what: str
    id: str
    detail: str
    is_mended: bool | None = None


@dataclass(frozen=True, slots=True)
class _Broken:
    what: str
    id: str
    detail: str
    cure: Call[Any] | None = None


@dataclass(slots=True)
class _Seen:
    """What a partition holds, as far as it has to be known at once."""

    now_ms: int
    tasks: dict[str, Stored | None] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    due: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    quarantine: dict[str, str] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)


def examine(space: Space, *, fix: bool) -> Steps[list[Finding]]:
    """Everything that is broken; with ``fix``, mended where that loses nothing."""
    found: list[Finding] = []
    for p in space.all_partitions():
        seen = yield from _look(space, p)
        for broken in [*_broken_tasks(p, seen), *_broken_runs(p, seen), *_leftovers(p, seen)]:
            is_mended: bool | None = None
            if fix and broken.cure is not None:
                (answer,) = yield [broken.cure]
                is_mended = answer[0].status == "saved" if isinstance(answer, list) else bool(answer)
            found.append(Finding(p.index, broken.what, broken.id, broken.detail, is_mended))
    return found


def _look(space: Space, p: Partition) -> Steps[_Seen]:
    (now_ms,) = yield [calls.server_time(space)]
    seen = _Seen(now_ms)
    raw = yield from _hash(p.key("tasks"))
    for task_id, record in raw.items():
        try:
            stored = codec.decode(task_id, record, space.signer)
            distrust = codec.distrust(stored)
            # Mending saves, and saving would sign what somebody else may have written.
            seen.tasks[task_id] = stored if distrust is None else None
            seen.records[task_id] = "" if distrust is None else f"task {task_id}: its record {distrust}"
        except codec.CorruptRecord as error:
            seen.tasks[task_id], seen.records[task_id] = None, str(error)
    seen.plans = yield from _texts(p.key("plan"))
    seen.quarantine = yield from _texts(p.key("quarantine"))
    seen.waiting = yield from _texts(p.key("waiting"))
    for kind in TASK_FACTS:
        seen.facts[kind] = yield from _texts(p.key(kind))
    seen.labels = set((yield from _members(p.key("labels"))))
    workers = yield from _texts(p.key("workers"))
    for boot in workers:
        seen.live |= set((yield from _texts(p.live(boot))))
    queues = {stored.definition.queue for stored in seen.tasks.values() if stored} | {"default"}
    queues |= {queue for row in workers.values() for queue in row.split(" ")[-2].split(",")}
    for queue in sorted(queues):
        seen.due |= dict.fromkeys((yield from _members(p.due(queue))), queue)
        seen.places |= dict.fromkeys((yield from _members(p.waiting_queue(queue))), queue)
    return seen


def _broken_tasks(p: Partition, seen: _Seen) -> Iterator[_Broken]:
    for task_id, stored in seen.tasks.items():
        if stored is None:
            detail = f"{seen.records[task_id]}; restore it, save it anew, or upgrade this release"
            yield _Broken("task", task_id, detail)
            continue
        plan, label = seen.plans.get(task_id), f"{stored.definition.label}\0{task_id}"
        if label not in seen.labels:
            yield _Broken("label", task_id, "it is not listed", calls.mend(p, "label", task_id, new=label))
        if plan is None or not _is_readable(plan):
            detail = "it has no plan" if plan is None else f"its plan cannot be read: {plan}"
            yield _Broken("plan", task_id, detail, _save(p, stored, seen.now_ms, replan=True))
        elif task_id not in seen.due and not (plan.endswith(" .") and task_id in seen.facts["open"]):
            yield _Broken("schedule", task_id, "it is in no queue", _save(p, stored, seen.now_ms))
        elif task_id in seen.quarantine:
            reason = seen.quarantine[task_id]
            yield _Broken("quarantine", task_id, reason, _save(p, stored, seen.now_ms))


def _is_readable(plan: str) -> bool:
    parts = plan.split(" ")
    try:
        planning.decode(parts[4] if len(parts) == 5 else "?")
        return all(part.isdigit() for part in parts[:3])
    except ValueError:
        return False


def _save(p: Partition, stored: Stored, now_ms: int, *, replan: bool = False) -> Call[Any]:
    """Saving a task as it is puts it into its place again."""
    definition = stored.definition
    beside = operations.beside(definition, None, now_ms) if replan and planning.is_once(definition.schedule) else ""
    plan = planning.plan(definition, now_ms) if replan else None
    op = operations.new_op(now_ms)
    save = Save(op=op, definition=definition, base=stored, plan=plan, planned_from_ms=now_ms, beside=beside)
    return calls.save(p, [save])


def _broken_runs(p: Partition, seen: _Seen) -> Iterator[_Broken]:
    for run_id in seen.waiting.keys() - seen.places.keys():
        queue = seen.waiting[run_id].rpartition(" ")[2]
        detail = "a waiting run without its place in a queue"
        yield _Broken("waiting", run_id, detail, calls.mend(p, "waiting", run_id, queue=queue))
    for run_id in seen.places.keys() - seen.waiting.keys():
        queue = seen.places[run_id]
        known = seen.tasks.get(task_id_of(run_id))
        mark = run_id.rpartition(":")[2]
        nominal = mark if mark.isdigit() else str(seen.now_ms)
        fields = f"1 0 {nominal} - {queue}" if known and _generation(run_id) == str(known.generation) else ""
        detail = "a place in a queue without a waiting run"
        yield _Broken("waiting", run_id, detail, calls.mend(p, "waiting", run_id, new=fields, queue=queue))
    known_runs = {*seen.waiting, *seen.places, *seen.live}
    runs = [run for run in known_runs if _generation(run) == _current(seen, task_id_of(run))]
    counted, marks = Counter(map(task_id_of, runs)), dict[str, list[str]]()
    for run in sorted(runs):
        marks.setdefault(task_id_of(run), []).append(run.rpartition(":")[2])
    for task_id in {*counted, *seen.facts["open"]} & seen.tasks.keys():
        old = seen.facts["open"].get(task_id, "")
        if old.split(" ")[0] != (str(counted[task_id]) if counted[task_id] else ""):
            new = f"{counted[task_id]} {','.join(marks[task_id][:100])}" if counted[task_id] else ""
            detail = f"it counts {old.split(' ')[0] or 0!r} open runs and has {counted[task_id]}"
            yield _Broken("open", task_id, detail, calls.mend(p, "open", task_id, old, new))


def _generation(run_id: str) -> str:
    parts = run_id.rsplit(":", 2)
    return parts[1] if len(parts) == 3 else ""


def _current(seen: _Seen, task_id: str) -> str:
    stored = seen.tasks.get(task_id)
    return str(stored.generation) if stored else ""


def _leftovers(p: Partition, seen: _Seen) -> Iterator[_Broken]:
    for task_id, queue in seen.due.items():
        if task_id not in seen.tasks:
            cure = calls.mend(p, "unscheduled", task_id, queue=queue)
            yield _Broken("schedule", task_id, "a place in a queue without a task", cure)
    for label in seen.labels:
        task_id = label.rpartition("\0")[2]
        stored = seen.tasks.get(task_id)
        if task_id not in seen.tasks or (stored and label != f"{stored.definition.label}\0{task_id}"):
            is_gone = task_id not in seen.tasks
            detail = f"a label {label.partition(chr(0))[0]!r} that is no task's"
            yield _Broken("label", task_id, detail, calls.mend(p, "label", task_id, old=label) if is_gone else None)
    gone = {task_id for known in (seen.plans, *seen.facts.values()) for task_id in known} - seen.tasks.keys()
    for task_id in sorted(gone):
        yield _Broken("leftover", task_id, "facts about a task that is gone", calls.mend(p, "leftover", task_id))
    for task_id in seen.quarantine.keys() - seen.tasks.keys() - gone:
        yield _Broken("quarantine", task_id, seen.quarantine[task_id])


def _hash(key: str) -> Steps[dict[str, bytes]]:
    found: dict[str, bytes] = {}
    cursor: int | None = None
    while cursor != 0:
        ((following, rows),) = yield [read(plain, "HSCAN", key, cursor or 0, "COUNT", _PAGE)]
        cursor = int(following)
        found |= {text(name): value for name, value in pairs(rows)}
    return found


def _texts(key: str) -> Steps[dict[str, str]]:
    found = yield from _hash(key)
    return {name: value.decode(errors="replace") for name, value in found.items()}


def _members(key: str) -> Steps[Sequence[str]]:
    found: list[str] = []
    cursor: int | None = None
    while cursor != 0:
        ((following, rows),) = yield [read(plain, "ZSCAN", key, cursor or 0, "COUNT", _PAGE)]
        cursor = int(following)
        found += [text(member) for member, _ in pairs(rows)]
    return found
