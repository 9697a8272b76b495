"""What the plain face shows of a task, and its operations as steps that both schedulers drive."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sisy_redis import backfills, build, calls, clock, inspection, operations, planning, queries, runs
from sisy_redis.definitions import Definition, Overlap, Plan, Stored
from sisy_redis.errors import DoesNotExist, TaskError
from sisy_redis.explain import Explanation, explain_now, explain_occurrence
from sisy_redis.fields import check_text, read_instant
from sisy_redis.inspection import DeadRun, OpenRun
from sisy_redis.keys import Space
from sisy_redis.queries import HistoryEntry, LastRun, Pause, TaskState, WorkerState
from sisy_redis.transport import Steps

__all__ = ["DeadRun", "Explanation", "HistoryEntry", "LastRun", "OpenRun", "Pause", "TaskView", "WorkerState"]

_PAGE = 200
_MOST_SKIPS = 1_000_000
_MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as it was when it was read. ``next_run`` is None while none is coming: paused, disabled, at its end."""

    id: str
    label: str
    path: str
    schedule: str
    tz: str
    queue: str
    enabled: bool
    overlap: str
    allow_overlap: bool
    max_running: int
    iterations: int
    iterations_left: int | None
    next_run: datetime | None
    running: bool
    last: LastRun | None
    pause: Pause | None
    unroutable: str | None
    created_at: datetime
    modified_at: datetime
    userdata: Mapping[str, Any]
    stored: Stored = field(repr=False)


def view_of(state: TaskState) -> TaskView:
    """A task's state as users see it."""
    stored, d = state.stored, state.stored.definition
    return TaskView(
        id=d.id,
        label=d.label,
        path=d.callable.path,
        schedule=d.schedule,
        tz=d.tz,
        queue=d.queue,
        enabled=d.enabled,
        overlap=str(d.overlap),
        allow_overlap=d.overlap is Overlap.ALLOW,
        max_running=d.max_running,
        iterations=d.iterations,
        iterations_left=state.iterations_left,
        next_run=None if state.next_ms is None else clock.from_ms(state.next_ms),
        running=state.open_runs > 0,
        last=state.last,
        pause=state.pause,
        unroutable=state.unroutable,
        created_at=clock.from_ms(stored.generation // 1000),
        modified_at=clock.from_ms(stored.version // 1000),
        userdata=d.userdata,
        stored=stored,
    )


def save(space: Space, definition: Definition) -> Steps[TaskView]:
    """Stores one task and reads it back."""
    (stored,) = yield from operations.save_all(space, [build.stamped(definition)])
    states = yield from queries.load_states(space, [definition.id])
    return view_of(states[0] if states else TaskState(stored, None, None, 0, None, None, None, None))


def save_many(space: Space, definitions: Iterable[Definition]) -> Steps[list[str]]:
    """Stores tasks, a page in a round trip, after all of them were checked."""
    checked = [build.stamped(definition) for definition in definitions]
    for definition in checked:
        planning.check_schedule(definition)
    for start in range(0, len(checked), _PAGE):
        yield from operations.save_all(space, checked[start : start + _PAGE])
    return [definition.id for definition in checked]


def load(space: Space, task: "str | TaskView") -> Steps[TaskView]:
    """The task as it is now. Raises DoesNotExist."""
    return view_of((yield from _state(space, task)))


def _state(space: Space, task: "str | TaskView") -> Steps[TaskState]:
    task_id = task if isinstance(task, str) else task.id
    states = yield from queries.load_states(space, [task_id])
    if not states or (isinstance(task, TaskView) and states[0].stored.generation != task.stored.generation):
        raise DoesNotExist(f"no task has the id {task_id!r}: it was never saved, was deleted, or has ended")
    return states[0]


def find(space: Space, label: str | None, limit: int | None) -> Steps[list[TaskView]]:
    """The tasks with this label, or all, at most ``limit``."""
    found: list[TaskView] = []
    for p in space.all_partitions():
        after: str | None = None
        while True:
            after, ids = yield from queries.page_by_label(p, after, label)
            states = yield from queries.load_states(space, ids)
            found += [view_of(state) for state in states]
            if limit is not None and len(found) >= limit:
                return found[:limit]
            if after is None:
                break
    return found


def delete(space: Space, task: "str | TaskView") -> Steps[bool]:
    """Deletes a task; False when it was gone already."""
    try:
        found = yield from load(space, task)
    except DoesNotExist:
        return False
    return (yield from operations.delete(space, found.stored))


def pause(space: Space, task: "str | TaskView", by: str, reason: str, until: datetime | None) -> Steps[None]:
    """Holds a task's schedule."""
    found = yield from load(space, task)
    texts = check_text("by", by), check_text("reason", reason)
    until_ms = None if until is None else read_instant("until", until)
    yield from operations.pause(space, found.stored, *texts, until_ms)


def skip_next(space: Space, task: "str | TaskView", n: int) -> Steps[None]:
    """Lets a task's next occurrences go."""
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= _MOST_SKIPS:
        raise TaskError(f"n must be a whole number from 0 to {_MOST_SKIPS}, not {n!r}")
    found = yield from load(space, task)
    yield from operations.skip_next(space, found.stored, n)


def maintenance(space: Space, until: datetime | None, start: datetime | None, by: str, reason: str) -> Steps[None]:
    """Sets or ends the namespace's maintenance window."""
    until_ms = 0 if until is None else read_instant("until", until)
    start_ms = 0 if start is None else read_instant("start", start)
    yield from operations.maintain(space, start_ms, until_ms, check_text("by", by), check_text("reason", reason))


def explained(space: Space, task: "str | TaskView", at: datetime | None) -> Steps[Explanation]:
    """Why a task runs or not, or what became of an occurrence."""
    task_id = task.id if isinstance(task, TaskView) else task
    at_ms = None if at is None else read_instant("at", at)
    facts = yield from inspection.gather(space, task_id)
    return explain_now(task_id, facts) if at_ms is None else explain_occurrence(task_id, at_ms, facts)


def runs_of(space: Space, task: "str | TaskView") -> Steps[list[OpenRun]]:
    """The open runs of a task."""
    return (yield from inspection.open_runs(space, task.id if isinstance(task, TaskView) else task))


def dead(space: Space, task: "str | TaskView | None", n: int) -> Steps[list[DeadRun]]:
    """The newest dead runs."""
    return (yield from inspection.dead_runs(space, task.id if isinstance(task, TaskView) else task, n))


def resume(space: Space, task: "str | TaskView") -> Steps[None]:
    """Lets a task's schedule go on."""
    found = yield from load(space, task)
    yield from operations.resume(space, found.stored)


def trigger(space: Space, task: "str | TaskView", counts: bool) -> Steps[str]:
    """Admits an extra run."""
    found = yield from load(space, task)
    return (yield from operations.trigger(space, found.stored, counts=counts))


def history(space: Space, task: "str | TaskView | None", n: int) -> Steps[list[HistoryEntry]]:
    """The newest lines of the ledger; those of a task are kept after it is gone."""
    task_id = task.id if isinstance(task, TaskView) else task
    return (yield from queries.history(space, task_id, n))


def upcoming(space: Space, task: "str | TaskView", n: int) -> Steps[list[datetime]]:
    """The next nominal instants of a task."""
    state = yield from _state(space, task)
    (now_ms,) = yield [calls.server_time(space)]
    if state.is_held:
        return []
    limit = n if state.iterations_left is None else min(n, state.iterations_left)
    first = state.plan.plan if state.plan else Plan()
    return [clock.from_ms(ms) for ms in islice(_instants(state.stored.definition, first, now_ms), max(0, limit))]


def _instants(definition: Definition, planned: Plan, after_ms: int) -> Iterator[int]:
    """The planned instants, and those that follow them."""
    while True:
        for segment in planned.segments:
            index = 0
            while segment.count is None or index < segment.count:
                after_ms = segment.first_ms + index * segment.step_ms
                yield after_ms
                index += 1
        if planned.complete:
            return
        planned = planning.plan(definition, after_ms)
        if not planned.segments:
            return


def checked(definitions: Sequence[Definition]) -> Sequence[Definition]:
    """The definitions, if that is what they are. Raises TypeError."""
    for definition in definitions:
        if not isinstance(definition, Definition):
            raise TypeError(f"expected a Definition, as define() makes it, not {type(definition).__name__}")
    return definitions


def age_ms(older_than: timedelta) -> int:
    """An age in ms. Raises TaskError for what is none."""
    if not isinstance(older_than, timedelta) or older_than < timedelta(0):
        raise TaskError(f"older_than must be a timedelta of 0 or more, not {older_than!r}")
    return older_than // timedelta(milliseconds=1)


def backfill(space: Space, task: "str | TaskView", start: datetime, end: datetime, max_running: int) -> Steps[str]:
    """Begins a backfill."""
    if isinstance(max_running, bool) or not isinstance(max_running, int) or not 1 <= max_running <= _MOST_AT_ONCE:
        raise TaskError(f"max_running must be a whole number from 1 to {_MOST_AT_ONCE}, not {max_running!r}")
    start_ms, end_ms = read_instant("start", start), read_instant("end", end)
    found = yield from load(space, task)
    return (yield from backfills.start(space, found.stored, start_ms, end_ms, max_running))


def end_backfill(space: Space, task: "str | TaskView", backfill_id: str) -> Steps[None]:
    """Ends a backfill, and its open runs."""
    task_id = task.id if isinstance(task, TaskView) else task
    yield from backfills.end(space, task_id, backfill_id)
    for run in (yield from inspection.open_runs(space, task_id)):
        if run.run_id.rpartition(":")[2].startswith(f"b{backfill_id}-"):
            yield from runs.cancel(space, run.run_id, reason=f"backfill {backfill_id} was ended")
