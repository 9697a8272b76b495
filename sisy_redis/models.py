"""sisy's face: ``Task``, ``task_with_callable`` and what belongs to them, with sisy's names, defaults and meaning."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Unpack

from sisy_redis import build, callables, clock, context, errors, inspection, operations, planning, queries, selection
from sisy_redis import userdata as data_rules
from sisy_redis.build import DEFAULT_SCHEDULE, TaskFields, Told
from sisy_redis.callables import func_from_string, funcinfo_from_string
from sisy_redis.definitions import (
    CallableRef,
    Definition,
    DstRule,
    FuncType,
    Keep,
    Misfire,
    Overlap,
    Pool,
    RetryPolicy,
    Stored,
)
from sisy_redis.errors import DoesNotExist, TaskError
from sisy_redis.explain import Explanation, explain_now, explain_occurrence
from sisy_redis.fields import (
    READABLE,
    check_text,
    complete_fields,
    fields_of_definition,
    merged,
    read_fields,
    read_instant,
)
from sisy_redis.queries import TaskState

__all__ = [
    "DEFAULT_SCHEDULE",
    "FAR_FUTURE",
    "HAS_NOT_RUN",
    "Task",
    "func_from_string",
    "funcinfo_from_string",
    "task_with_callable",
    "taskinfo_with_label",
]

HAS_NOT_RUN = clock.EPOCH
FAR_FUTURE = clock.FAR_FUTURE

_EVERY_HEARTBEAT = Told("* * * * * *")
_HEARTBEAT_MS = 60_000


class Task:
    """A callable and when it runs; active once saved.

    Public fields may be changed at any time and are stored by ``save()``: ``label``, ``schedule``, ``enabled``,
    ``start_running``, ``end_running``, ``wait_for_schedule``, ``iterations`` (0: no limit), ``allow_overlap``,
    ``userdata``, and beside sisy's: ``overlap`` (of which ``allow_overlap`` is the short form), ``keep``, ``max_running``,
    ``buffer_limit``, ``pause_after``, ``max_redeliveries``, ``tz``, ``queue``, ``retry``, ``timeout``, ``pool``, ``jitter``,
    ``misfire``, ``misfire_grace``, ``catchup_window``, ``max_catchup``, ``dst``. Everything else is read-only; unknown attributes
    are refused. What changes by itself (``next_run``, ``last_run``, ``running``, ``iterations_left``) is read on first
    use after loading or saving, and again by ``refresh()``; of a task that has ended: FAR_FUTURE, HAS_NOT_RUN, False, 0.
    """

    __slots__ = (
        "_id", "_min_gap_ms", "_ref", "_run", "_schedule", "_state", "_stored", "_userdata", "buffer_limit",
        "catchup_window", "dst", "enabled", "end_running", "iterations", "jitter", "keep", "label", "max_catchup",
        "max_redeliveries", "max_running", "misfire", "misfire_grace", "overlap", "pause_after", "pool", "queue", "retry",
        "start_running", "timeout", "tz", "wait_for_schedule",
    )  # fmt: skip

    DoesNotExist: ClassVar = errors.DoesNotExist
    MultipleObjectsReturned: ClassVar = errors.MultipleObjectsReturned
    objects: ClassVar[selection.Objects["Task"]]

    _id: str
    _min_gap_ms: int
    _ref: CallableRef | None
    _run: context.RunContext | None
    _schedule: str
    _state: TaskState | None
    _stored: Stored | None
    _userdata: dict[str, Any]
    label: str
    enabled: bool
    start_running: datetime
    end_running: datetime
    wait_for_schedule: bool
    iterations: int
    overlap: Overlap | str
    keep: Keep | str
    max_running: int
    buffer_limit: int
    pause_after: int
    max_redeliveries: int
    tz: str
    dst: DstRule | str
    queue: str
    retry: RetryPolicy | Any
    timeout: timedelta | float | None
    pool: Pool | str
    jitter: timedelta | float
    misfire: Misfire | str
    misfire_grace: timedelta | float
    catchup_window: timedelta | float
    max_catchup: int

    def __init__(
        self,
        *,
        label: str | None = None,
        schedule: str = DEFAULT_SCHEDULE,
        userdata: Mapping[str, Any] | None = None,
        **fields: Unpack[TaskFields],
    ) -> None:
        """Takes the public fields; without a callable it cannot be saved, so use ``task_with_callable``.

        Raises TaskError for a value a field cannot have, TypeError for an unknown field.
        """
        _blank(self)
        self.label = check_text("label", label or "")
        self._schedule = _text_of(schedule)
        self._userdata = data_rules.check(userdata)
        for name, value in complete_fields(fields).items():
            setattr(self, name, value)

    @classmethod
    def from_stored(cls, stored: Stored, state: TaskState | None = None) -> "Task":
        """The task of a stored definition."""
        task = cls.__new__(cls)
        _blank(task)
        task._load(stored, state)
        return task

    def for_run(self, run: context.RunContext | None) -> "Task":
        """This task, whose saves are refused with StaleToken once ``run`` lost its lease or ended; None: no longer."""
        self._run = run
        return self

    @classmethod
    def run_iterations(
        cls,
        the_callable: Callable[..., Any] | str,
        iterations: int = 1,
        label: str | None = None,
        schedule: str = _EVERY_HEARTBEAT,
        userdata: Any = dict,
        run_immediately: bool = False,
        delay_until: datetime | None = None,
    ) -> "Task":
        """Saves a task that runs ``iterations`` times, and returns it.

        Without a schedule it fires every SISY_HEARTBEAT_FREQUENCY, and once per minute where that is unset.
        ``run_immediately``: the first run is at once, or exactly at ``delay_until``. Raises what ``save`` raises.
        """
        task = task_with_callable(the_callable, label, schedule, userdata, iterations=iterations)
        if schedule is _EVERY_HEARTBEAT:
            task._min_gap_ms = _HEARTBEAT_MS
        if run_immediately:
            task.wait_for_schedule = False
        task._delay(delay_until)
        task.save()
        return task

    @classmethod
    def run_once(
        cls,
        the_callable: Callable[..., Any] | str,
        userdata: Any = dict,
        delay_until: datetime | None = None,
    ) -> "Task":
        """Saves a task that runs once, at once or exactly at ``delay_until``, and returns it.

        Raises what ``save`` raises.
        """
        task = task_with_callable(the_callable, None, planning.ONCE, userdata, iterations=1)
        task._delay(delay_until)
        task.save()
        return task

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return self.label or (self._ref.path if self._ref else "")

    def __repr__(self) -> str:
        return f"<Task {self._id}: {self}>"

    @property
    def id(self) -> str:
        """Given at creation, the same for good."""
        return self._id

    @property
    def pk(self) -> str:
        """The same as ``id``."""
        return self._id

    @property
    def schedule(self) -> str:
        """The cron expression, ``@every <seconds>`` or ``@once``."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: str) -> None:
        self._schedule = _text_of(schedule)
        self._min_gap_ms = 0

    @property
    def allow_overlap(self) -> bool:
        """Whether further occurrences may run while one does; set to False, they are skipped (``overlap="skip"``)."""
        return self.overlap == Overlap.ALLOW

    @allow_overlap.setter
    def allow_overlap(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise TaskError(f"allow_overlap must be True or False, not {allowed!r}")
        if allowed != self.allow_overlap:
            self.overlap = Overlap.ALLOW if allowed else Overlap.SKIP

    @property
    def userdata(self) -> dict[str, Any]:
        """A live dictionary: ``save()`` stores what was changed in it."""
        return self._userdata

    @userdata.setter
    def userdata(self, userdata: Mapping[str, Any] | None) -> None:
        self._userdata = data_rules.check(userdata)

    @property
    def funcinfo(self) -> dict[str, Any]:
        """What the callable is, by sisy's names; empty without one."""
        return callables.funcinfo(self._ref) if self._ref else {}

    @funcinfo.setter
    def funcinfo(self, info: Mapping[str, Any]) -> None:
        path, pk = info.get("func_path"), info.get("model_pk")
        if not isinstance(path, str):
            raise TaskError("funcinfo needs func_path; funcinfo_from_string makes one")
        self._ref = callables.describe(path, pk_override=pk, userdata=self._userdata)
        self.label = self.label or self._ref.path

    @property
    def _func_info(self) -> str:
        return json.dumps(self.funcinfo, default=str)

    @property
    def _extra_data(self) -> str:
        return json.dumps(self._userdata)

    @property
    def created_at(self) -> datetime | None:
        """When the task was first saved, by the server's clock; None before."""
        return clock.from_ms(self._stored.generation // 1000) if self._stored else None

    @property
    def modified_at(self) -> datetime | None:
        """When the task was last saved, by the server's clock; None before."""
        return clock.from_ms(self._stored.version // 1000) if self._stored else None

    @property
    def next_run(self) -> datetime:
        """The next scheduled run; FAR_FUTURE when none is coming, HAS_NOT_RUN before the first save."""
        if self._stored is None:
            return HAS_NOT_RUN
        state = self._current()
        return FAR_FUTURE if state is None or state.next_ms is None else clock.from_ms(state.next_ms)

    @property
    def last_run(self) -> datetime:
        """The nominal instant of the latest run that began; HAS_NOT_RUN when there was none."""
        if self._stored is None:
            return HAS_NOT_RUN
        state = self._current()
        if state is None:
            return HAS_NOT_RUN
        ended_ms = state.last.nominal_ms if state.last else 0
        begun_ms = state.plan.admitted_ms if state.plan else None
        return clock.from_ms(max(ended_ms, begun_ms or 0))

    @property
    def running(self) -> bool:
        """Whether the task has an open run: one that is running, or waiting for a worker or for its retry."""
        state = self._current() if self._stored else None
        return state is not None and state.open_runs > 0

    @property
    def iterations_left(self) -> int | None:
        """How many runs are still to be admitted; None without a limit."""
        if self._stored is None:
            return self.iterations or None
        state = self._current()
        return state.iterations_left if state else 0

    def func_from_info(self) -> Callable[..., Any]:
        """The callable itself, bound to its object for a model's method. Raises CallableError."""
        ref = self._callable()
        func = func_from_string(ref.path)
        return callables.bind_instance(ref, func) if ref.func_type is FuncType.INSTANCEMETHOD else func

    def calc_next_run(self) -> datetime:
        """The next instant of the schedule within the task's bounds as they are set now; FAR_FUTURE when there is none.

        Computed here, by this machine's clock; nothing is stored, and ``next_run`` says what is planned.
        """
        definition = self._definition()
        planned = planning.plan(definition, clock.wall_ms())
        return clock.from_ms(planned.segments[0].first_ms) if planned.segments else FAR_FUTURE

    def run_asap(self) -> str:
        """Has the task run now, beside its schedule, and returns the run's id; it costs one of its iterations.

        Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist when it is gone, TaskError when
        it was never saved.
        """
        stored, session = self._saved(), context.session()
        run_id = session.transport.run(operations.trigger(session.space, stored, counts=True))
        self._state = None
        return run_id

    def explain(self, at: datetime | None = None) -> Explanation:
        """Why the task runs now or does not; with ``at`` (aware), what became of its occurrence at that instant, and why."""
        session = context.session()
        at_ms = None if at is None else read_instant("at", at)
        facts = session.transport.run(inspection.gather(session.space, self._id))
        return explain_now(self._id, facts) if at_ms is None else explain_occurrence(self._id, at_ms, facts)

    def refresh(self) -> None:
        """Loads the task again; changes that were not saved are lost. Raises DoesNotExist when it is gone."""
        stored = self._saved()
        state = self._read(stored)
        self._load(state.stored, state)

    def save(self) -> None:
        """Checks everything and stores the task, or what was changed in it since it was loaded.

        Raises TaskError (a ValueError) with nothing stored for a value that cannot be; DoesNotExist when the task is
        gone; ConflictError when another changed the same field; StaleToken from a run of this task that lost its lease.
        """
        definition = self._definition()
        run, session = self._run or context.current_run.get(), context.session()
        if self._stored is None:
            (stored,) = session.transport.run(operations.save_all(session.space, [definition]))
        else:
            fence: dict[str, Any] = {}
            if run is not None and run.task_id == self._id:
                fence = {"boot": run.boot, "run_id": run.run_id, "token": run.token}
            edit = operations.edit(session.space, self._stored, partial(merged, definition), **fence)
            stored = session.transport.run(edit)
        self._load(stored, None)

    def delete(self) -> None:
        """Deletes the task; a run of it that is going on ends by itself. Nothing happens if it is gone already."""
        stored, session = self._saved(), context.session()
        session.transport.run(operations.delete(session.space, stored))
        self._stored = self._state = None

    def _delay(self, delay_until: datetime | None) -> None:
        if delay_until is None:
            return
        start_ms = read_fields({"start_running": delay_until})["start_ms"]
        if start_ms == 0:
            raise TaskError("Task cannot start running in the past: delay_until must be in the future")
        self.start_running = delay_until

    def _callable(self) -> CallableRef:
        if self._ref is None:
            raise TaskError("the task has no callable: make it with task_with_callable")
        return self._ref

    def _saved(self) -> Stored:
        if self._stored is None:
            raise TaskError("the task is not saved; save it first")
        return self._stored

    def _read(self, stored: Stored) -> TaskState:
        session = context.session()
        states = session.transport.run(queries.load_states(session.space, [self._id]))
        if not states or states[0].stored.generation != stored.generation:
            raise DoesNotExist(f"task {self._id!r} is gone: it was deleted, or has ended")
        return states[0]

    def _current(self) -> TaskState | None:
        """None when the task is gone: it has ended, or was deleted."""
        if self._state is None:
            try:
                self._state = self._read(self._saved())
            except DoesNotExist:
                return None
        return self._state

    def _definition(self) -> Definition:
        ref = self._callable()
        if not ref.takes_message and (self._stored is None or self._stored.definition.userdata != self._userdata):
            callables.describe(ref.path, pk_override=ref.model_pk, userdata=data_rules.check(self._userdata))
        definition = build.definition_of(
            ref,
            id=self._id,
            label=self.label,
            schedule=self._schedule,
            data=self._userdata,
            min_gap_ms=self._min_gap_ms,
            fields={name: getattr(self, name) for name in READABLE},
        )
        known = self._stored.definition if self._stored else None
        if known and known.schedule == definition.schedule:
            definition = replace(definition, anchor_ms=known.anchor_ms)
        return definition

    def _load(self, stored: Stored, state: TaskState | None) -> None:
        definition = stored.definition
        for name, value in fields_of_definition(definition).items():
            setattr(self, name, value)
        self.label, self._schedule = definition.label, definition.schedule
        self._id, self._ref, self._min_gap_ms = definition.id, definition.callable, definition.min_gap_ms
        fresh = copy.deepcopy(dict(definition.userdata))
        if repr(self._userdata) != repr(fresh):
            # The same object as before: whoever holds it sees what is stored.
            self._userdata.clear()
            self._userdata.update(fresh)
        self._stored, self._state = stored, state


Task.objects = selection.Objects(Task.from_stored)


def task_with_callable(
    the_callable: Callable[..., Any] | str,
    label: str | None = None,
    schedule: str = DEFAULT_SCHEDULE,
    userdata: Mapping[str, Any] | None = None,
    pk_override: Any = None,
    **fields: Unpack[TaskFields],
) -> Task:
    """A task for a function, class or static method, coroutine or Django model method; inactive until saved.

    ``the_callable`` is an object or a dotted path; ``pk_override`` names the model's row for a dotted path to its
    method. ``label`` defaults to the dotted path, ``schedule`` to SISY_DEFAULT_SCHEDULE. Raises TaskError or one
    of its kinds.
    """
    task = Task(label=label, schedule=schedule, userdata=userdata, **fields)
    task._ref = callables.describe(the_callable, pk_override=pk_override, userdata=task._userdata)
    task.label = task.label or task._ref.path
    task._definition()
    return task


def taskinfo_with_label(label: str) -> dict[str, Any]:
    """The funcinfo of the one task with this label. Raises DoesNotExist or MultipleObjectsReturned."""
    return Task.objects.get(label=label).funcinfo


def _blank(task: Task) -> None:
    task._id, task._ref, task._run, task._min_gap_ms = operations.new_id(), None, None, 0
    task._userdata, task._stored, task._state = {}, None, None


def _text_of(schedule: object) -> str:
    if not isinstance(schedule, str):
        raise TaskError(f"schedule must be text, not {type(schedule).__name__}")
    return str(schedule)
