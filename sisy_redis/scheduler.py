"""The plain face: ``Scheduler`` and ``AsyncScheduler``, the same methods over the same operations."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sisy_redis import backfills, build, context, doctor, queries, registry, runs, settings, views
from sisy_redis.backfills import Backfill
from sisy_redis.build import DefineFields, Told
from sisy_redis.context import Located
from sisy_redis.definitions import CallableRef, Definition
from sisy_redis.doctor import Finding
from sisy_redis.errors import CallableError
from sisy_redis.explain import Explanation
from sisy_redis.inspection import DeadRun, OpenRun
from sisy_redis.keys import Space
from sisy_redis.queries import HistoryEntry, WorkerState
from sisy_redis.registry import Hook
from sisy_redis.transport import AsyncTransport, Steps, Transport
from sisy_redis.views import TaskView

__all__ = [
    "AsyncScheduler",
    "Backfill",
    "DeadRun",
    "Explanation",
    "Finding",
    "HistoryEntry",
    "OpenRun",
    "Scheduler",
    "TaskView",
    "WorkerState",
    "define",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Operation = Callable[[Space], Steps[T]]

_SETTING = Told("sisy")


def define(the_callable: Callable[..., Any] | str, /, **fields: Unpack[DefineFields]) -> Definition:
    """A checked task, not saved yet.

    ``id`` defaults to the label and that to the dotted path; saving an id again changes that task. ``schedule`` is a
    cron expression, ``@once`` or by default SISY_DEFAULT_SCHEDULE; ``every`` an interval, ``anchor`` one of its
    instants (default: when it is first saved). Raises TaskError or one of its kinds, all ValueErrors; TypeError for an
    unknown field.
    """
    return build.build(the_callable, fields)


def _definition(task: Definition | Callable[..., Any] | str, fields: DefineFields) -> Definition:
    if not isinstance(task, Definition):
        return build.build(task, fields)
    if fields:
        raise TypeError("a Definition is complete; give further fields to define()")
    return task


def _declare(fields: DefineFields, on_success: Hook | None, on_failure: Hook | None) -> Callable[[F], F]:
    def decorate(func: F) -> F:
        if not inspect.isfunction(func) or func.__qualname__ != func.__name__:
            raise CallableError(f"@scheduler.task is for functions and coroutines at module level, not {func!r}")
        # The module does not have the function's name yet, so only the rest can be checked here.
        path = f"{func.__module__}.{func.__name__}"
        unseen = CallableRef(path=path, module_name=func.__module__, func_name=func.__name__)
        task_id = build.build_described(unseen, fields).id
        task = registry.Declared(path, lambda: build.build(func, fields), on_success, on_failure)
        registry.declare(func, task_id, task)
        return func

    return decorate


class Scheduler:
    """Saves, finds and steers tasks. Connects on first use; close it, or use it as a context manager.

    ``url`` None: the settings' server, else the embedded one. ``namespace`` not given: SISY_NAMESPACE, by default
    "sisy". A task is meant by its id or by a view of it; a view means that very task, not a later one with the same id.
    Methods raise RedisUnavailable when Redis cannot be reached for ten seconds.
    """

    def __init__(self, url: str | None = None, namespace: str = _SETTING) -> None:
        self._url, self._namespace = url, namespace
        self._lock = threading.Lock()
        self._opened: tuple[Located, Transport] | None = None

    def save(self, task: Definition | Callable[..., Any] | str, /, **fields: Unpack[DefineFields]) -> TaskView:
        """Stores a task: a Definition, or what ``define`` takes. An id that exists is changed to what is given."""
        definition = _definition(task, fields)
        return self._run(lambda space: views.save(space, definition))

    def save_many(self, definitions: Iterable[Definition]) -> list[str]:
        """Stores many tasks in few round trips, all of them checked before the first; returns their ids in order."""
        wanted = views.checked(list(definitions))
        return self._run(lambda space: views.save_many(space, wanted))

    def save_registered(self) -> list[str]:
        """Stores what ``@task`` declared in this process, as a worker does when it starts; returns the ids."""
        return self.save_many(registry.definitions())

    def get(self, id: str) -> TaskView:
        """The task with this id. Raises DoesNotExist."""
        return self._run(lambda space: views.load(space, id))

    def find(self, label: str | None = None, limit: int | None = None) -> list[TaskView]:
        """The tasks with this label, or all, in the order of their labels; at most ``limit``."""
        return self._run(lambda space: views.find(space, label, limit))

    def delete(self, task: str | TaskView) -> bool:
        """Deletes a task; False when it was gone already. Runs that are going on end by themselves."""
        return self._run(lambda space: views.delete(space, task))

    def pause(self, task: str | TaskView, *, until: datetime | None = None, by: str = "", reason: str = "") -> None:
        """Holds a task's schedule until ``resume``, or until an aware datetime. Raises DoesNotExist."""
        return self._run(lambda space: views.pause(space, task, by, reason, until))

    def skip_next(self, task: str | TaskView, n: int = 1) -> None:
        """Lets a task's next ``n`` occurrences go, whenever they are due; 0 takes it back. Raises DoesNotExist."""
        return self._run(lambda space: views.skip_next(space, task, n))

    def backfill(self, task: str | TaskView, start: datetime, end: datetime, *, max_running: int = 1) -> str:
        """Runs the schedule's past instants in [start, end), both aware, again; returns the backfill's id.

        ``max_running`` of its runs are open at once, each an open run of the task like any other; they cost no iteration.
        Raises TaskBusy when the task has a backfill already, TaskError for a range without instants or with too many.
        """
        return self._run(lambda space: views.backfill(space, task, start, end, max_running))

    def backfill_of(self, task: str | TaskView) -> Backfill | None:
        """How far a task's backfill is; None when none is going on."""
        task_id = task if isinstance(task, str) else task.id
        return self._run(lambda space: backfills.current(space, task_id))

    def end_backfill(self, task: str | TaskView, backfill_id: str) -> None:
        """Ends a backfill: nothing more of it begins, and its open runs are cancelled. Raises DoesNotExist."""
        return self._run(lambda space: views.end_backfill(space, task, backfill_id))

    def maintenance(self, until: datetime, *, start: datetime | None = None, by: str = "", reason: str = "") -> None:
        """Has the whole namespace admit nothing from ``start`` (default: now) until ``until``, both aware.

        What runs goes on. Afterwards each task's misfire policy decides about what was due, as after an outage.
        """
        return self._run(lambda space: views.maintenance(space, until, start, by, reason))

    def end_maintenance(self) -> None:
        """Ends the maintenance window, or takes one back that was to come."""
        return self._run(lambda space: views.maintenance(space, None, None, "", ""))

    def resume(self, task: str | TaskView) -> None:
        """Lets a task's schedule go on, strictly after now. Raises DoesNotExist."""
        return self._run(lambda space: views.resume(space, task))

    def trigger(self, task: str | TaskView, *, counts: bool = False) -> str:
        """Has a task run now, beside its schedule; returns the run's id. ``counts``: it costs an iteration.

        Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist.
        """
        return self._run(lambda space: views.trigger(space, task, counts))

    def cancel(self, run_id: str, *, by: str = "", reason: str = "") -> str:
        """Ends a run from anywhere: "cancelled" when it waited, "requested" when it is running, "gone" when it has ended.

        Asked to end, a coroutine is cancelled and a process run killed; a plain function has to look at
        ``cancel_requested()``.
        """
        return self._run(lambda space: runs.cancel(space, run_id, by, reason))

    def runs(self, task: str | TaskView) -> list[OpenRun]:
        """The open runs of a task, oldest first: who runs them, or when they are tried next, and how far they are."""
        return self._run(lambda space: views.runs_of(space, task))

    def explain(self, task: str | TaskView, at: datetime | None = None) -> Explanation:
        """Why a task runs now or does not; with ``at`` (aware), what became of its occurrence at that instant, and why."""
        return self._run(lambda space: views.explained(space, task, at))

    def dead(self, task: str | TaskView | None = None, n: int = 100) -> list[DeadRun]:
        """The newest ``n`` dead runs, of a task or of all: lost, or failed with no retry left."""
        return self._run(lambda space: views.dead(space, task, n))

    def requeue(self, run_id: str) -> str:
        """Gives a dead run another chance; the id of the run that will be tried (another one where its task is gone).

        Raises DoesNotExist when it is not among the dead, TaskBusy when its task has as many open runs as it may.
        """
        return self._run(lambda space: runs.requeue(space, run_id))

    def bury(self, run_ids: Iterable[str]) -> int:
        """Forgets dead runs; how many there were."""
        wanted = list(run_ids)
        return self._run(lambda space: runs.bury(space, wanted))

    def examine(self, *, fix: bool = False) -> list[Finding]:
        """Looks at the whole namespace for what cannot be; with ``fix``, mends it where that loses nothing.

        For one that nobody changes meanwhile; what changes under it may be reported though it is well.
        """
        return self._run(lambda space: doctor.examine(space, fix=fix))

    def purge(self, older_than: timedelta) -> dict[str, int]:
        """Forgets ledger lines, reports and dead runs older than that; how many "entries" and "dead" runs there were."""
        older_ms = views.age_ms(older_than)
        return self._run(lambda space: runs.purge(space, older_ms))

    def history(self, task: str | TaskView | None = None, n: int = 20) -> list[HistoryEntry]:
        """The newest ``n`` lines of the ledger, of a task (also one that is gone) or of all, newest first."""
        return self._run(lambda space: views.history(space, task, n))

    def upcoming(self, task: str | TaskView, n: int = 5) -> list[datetime]:
        """The next ``n`` nominal instants (UTC) of a task; none while it is paused or disabled. Raises DoesNotExist."""
        return self._run(lambda space: views.upcoming(space, task, n))

    def workers(self) -> list[WorkerState]:
        """The registered workers."""
        return self._run(queries.workers)

    def close(self) -> None:
        """Closes the connections; the next use opens them again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened:
            opened[1].close()
            opened[0].server.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def task(
        self, *, on_success: Hook | None = None, on_failure: Hook | None = None, **fields: Unpack[DefineFields]
    ) -> Callable[[F], F]:
        """Declares a function or coroutine as a task, with what ``define`` takes; it stays as callable as before.

        A worker that imports the module (``--import``) saves the task and may call the function. ``on_success`` and
        ``on_failure`` (failed or timed out, with no retry left) are called in the worker that ended a run of this task,
        with the run's message, once Redis knows of its end. A run that ends without its worker (lost, or given up
        while its worker was blocked) calls neither. Raises what ``define`` raises.
        """
        return _declare(fields, on_success, on_failure)

    def on_worker_start(self, hook: F) -> F:
        """Has every worker process that imports this module call ``hook()`` before its first claim."""
        registry.add_worker_start_hook(hook)
        return hook

    def on_worker_stop(self, hook: F) -> F:
        """Has every worker process that imports this module call ``hook()`` after it drained."""
        registry.add_worker_stop_hook(hook)
        return hook

    def _run(self, operation: Operation[T]) -> T:
        with self._lock:
            if self._opened is None:
                located = context.locate(self._url, _name_of(self._namespace))
                self._opened = located, Transport(located.server.url, wait_replicas=_wait_replicas())
            located, transport = self._opened
        return transport.run(operation(located.space))


class AsyncScheduler:
    """``Scheduler`` for asyncio: the same methods, awaited, on one event loop."""

    def __init__(self, url: str | None = None, namespace: str = _SETTING) -> None:
        self._url, self._namespace = url, namespace
        self._lock = asyncio.Lock()
        self._opened: tuple[Located, AsyncTransport] | None = None

    async def save(self, task: Definition | Callable[..., Any] | str, /, **fields: Unpack[DefineFields]) -> TaskView:
        """Stores a task: a Definition, or what ``define`` takes. An id that exists is changed to what is given."""
        definition = _definition(task, fields)
        return await self._run(lambda space: views.save(space, definition))

    async def save_many(self, definitions: Iterable[Definition]) -> list[str]:
        """Stores many tasks in few round trips, all of them checked before the first; returns their ids in order."""
        wanted = views.checked(list(definitions))
        return await self._run(lambda space: views.save_many(space, wanted))

    async def save_registered(self) -> list[str]:
        """Stores what ``@task`` declared in this process, as a worker does when it starts; returns the ids."""
        return await self.save_many(registry.definitions())

    async def get(self, id: str) -> TaskView:
        """The task with this id. Raises DoesNotExist."""
        return await self._run(lambda space: views.load(space, id))

    async def find(self, label: str | None = None, limit: int | None = None) -> list[TaskView]:
        """The tasks with this label, or all, in the order of their labels; at most ``limit``."""
        return await self._run(lambda space: views.find(space, label, limit))

    async def delete(self, task: str | TaskView) -> bool:
        """Deletes a task; False when it was gone already. Runs that are going on end by themselves."""
        return await self._run(lambda space: views.delete(space, task))

    async def pause(
        self, task: str | TaskView, *, until: datetime | None = None, by: str = "", reason: str = ""
    ) -> None:
        """Holds a task's schedule until ``resume``, or until an aware datetime. Raises DoesNotExist."""
        return await self._run(lambda space: views.pause(space, task, by, reason, until))

    async def skip_next(self, task: str | TaskView, n: int = 1) -> None:
        """Lets a task's next ``n`` occurrences go, whenever they are due; 0 takes it back. Raises DoesNotExist."""
        return await self._run(lambda space: views.skip_next(space, task, n))

    async def backfill(self, task: str | TaskView, start: datetime, end: datetime, *, max_running: int = 1) -> str:
        """Runs the schedule's past instants in [start, end), both aware, again; returns the backfill's id.

        ``max_running`` of its runs are open at once, each an open run of the task like any other; they cost no iteration.
        Raises TaskBusy when the task has a backfill already, TaskError for a range without instants or with too many.
        """
        return await self._run(lambda space: views.backfill(space, task, start, end, max_running))

    async def backfill_of(self, task: str | TaskView) -> Backfill | None:
        """How far a task's backfill is; None when none is going on."""
        task_id = task if isinstance(task, str) else task.id
        return await self._run(lambda space: backfills.current(space, task_id))

    async def end_backfill(self, task: str | TaskView, backfill_id: str) -> None:
        """Ends a backfill: nothing more of it begins, and its open runs are cancelled. Raises DoesNotExist."""
        return await self._run(lambda space: views.end_backfill(space, task, backfill_id))

    async def maintenance(
        self, until: datetime, *, start: datetime | None = None, by: str = "", reason: str = ""
    ) -> None:
        """Has the whole namespace admit nothing from ``start`` (default: now) until ``until``, both aware.

        What runs goes on. Afterwards each task's misfire policy decides about what was due, as after an outage.
        """
        return await self._run(lambda space: views.maintenance(space, until, start, by, reason))

    async def end_maintenance(self) -> None:
        """Ends the maintenance window, or takes one back that was to come."""
        return await self._run(lambda space: views.maintenance(space, None, None, "", ""))

    async def resume(self, task: str | TaskView) -> None:
        """Lets a task's schedule go on, strictly after now. Raises DoesNotExist."""
        return await self._run(lambda space: views.resume(space, task))

    async def trigger(self, task: str | TaskView, *, counts: bool = False) -> str:
        """Has a task run now, beside its schedule; returns the run's id. ``counts``: it costs an iteration.

        Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist.
        """
        return await self._run(lambda space: views.trigger(space, task, counts))

    async def cancel(self, run_id: str, *, by: str = "", reason: str = "") -> str:
        """Ends a run from anywhere: "cancelled" when it waited, "requested" when it is running, "gone" when it has ended.

        Asked to end, a coroutine is cancelled and a process run killed; a plain function has to look at
        ``cancel_requested()``.
        """
        return await self._run(lambda space: runs.cancel(space, run_id, by, reason))

    async def runs(self, task: str | TaskView) -> list[OpenRun]:
        """The open runs of a task, oldest first: who runs them, or when they are tried next, and how far they are."""
        return await self._run(lambda space: views.runs_of(space, task))

    async def explain(self, task: str | TaskView, at: datetime | None = None) -> Explanation:
        """Why a task runs now or does not; with ``at`` (aware), what became of its occurrence at that instant, and why."""
        return await self._run(lambda space: views.explained(space, task, at))

    async def dead(self, task: str | TaskView | None = None, n: int = 100) -> list[DeadRun]:
        """The newest ``n`` dead runs, of a task or of all: lost, or failed with no retry left."""
        return await self._run(lambda space: views.dead(space, task, n))

    async def requeue(self, run_id: str) -> str:
        """Gives a dead run another chance; the id of the run that will be tried (another one where its task is gone).

        Raises DoesNotExist when it is not among the dead, TaskBusy when its task has as many open runs as it may.
        """
        return await self._run(lambda space: runs.requeue(space, run_id))

    async def bury(self, run_ids: Iterable[str]) -> int:
        """Forgets dead runs; how many there were."""
        wanted = list(run_ids)
        return await self._run(lambda space: runs.bury(space, wanted))

    async def examine(self, *, fix: bool = False) -> list[Finding]:
        """Looks at the whole namespace for what cannot be; with ``fix``, mends it where that loses nothing.

        For one that nobody changes meanwhile; what changes under it may be reported though it is well.
        """
        return await self._run(lambda space: doctor.examine(space, fix=fix))

    async def purge(self, older_than: timedelta) -> dict[str, int]:
        """Forgets ledger lines, reports and dead runs older than that; how many "entries" and "dead" runs there were."""
        older_ms = views.age_ms(older_than)
        return await self._run(lambda space: runs.purge(space, older_ms))

    async def history(self, task: str | TaskView | None = None, n: int = 20) -> list[HistoryEntry]:
        """The newest ``n`` lines of the ledger, of a task (also one that is gone) or of all, newest first."""
        return await self._run(lambda space: views.history(space, task, n))

    async def upcoming(self, task: str | TaskView, n: int = 5) -> list[datetime]:
        """The next ``n`` nominal instants (UTC) of a task; none while it is paused or disabled. Raises DoesNotExist."""
        return await self._run(lambda space: views.upcoming(space, task, n))

    async def workers(self) -> list[WorkerState]:
        """The registered workers."""
        return await self._run(queries.workers)

    async def close(self) -> None:
        """Closes the connections; the next use opens them again."""
        async with self._lock:
            opened, self._opened = self._opened, None
        if opened:
            await opened[1].close()
            await asyncio.to_thread(opened[0].server.release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def task(
        self, *, on_success: Hook | None = None, on_failure: Hook | None = None, **fields: Unpack[DefineFields]
    ) -> Callable[[F], F]:
        """Declares a function or coroutine as a task; see ``Scheduler.task``."""
        return _declare(fields, on_success, on_failure)

    def on_worker_start(self, hook: F) -> F:
        """Has every worker process that imports this module call ``hook()`` before its first claim."""
        registry.add_worker_start_hook(hook)
        return hook

    def on_worker_stop(self, hook: F) -> F:
        """Has every worker process that imports this module call ``hook()`` after it drained."""
        registry.add_worker_stop_hook(hook)
        return hook

    async def _run(self, operation: Operation[T]) -> T:
        async with self._lock:
            if self._opened is None:
                located = await asyncio.to_thread(context.locate, self._url, _name_of(self._namespace))
                self._opened = located, AsyncTransport(located.server.url, wait_replicas=_wait_replicas())
            located, transport = self._opened
        return await transport.run(operation(located.space))


def _wait_replicas() -> int:
    return settings.current().wait_replicas


def _name_of(namespace: str) -> str:
    return settings.current().namespace if namespace is _SETTING else settings.Settings(namespace=namespace).namespace
