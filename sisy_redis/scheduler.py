"""The plain face: ``Scheduler`` and ``AsyncScheduler``, the same methods over the same operations."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sisy_redis import build, context, queries, registry, settings, views
from sisy_redis.build import DefineFields, Told
from sisy_redis.context import Located
from sisy_redis.definitions import CallableRef, Definition
from sisy_redis.errors import CallableError
from sisy_redis.keys import Space
from sisy_redis.queries import HistoryEntry, WorkerState
from sisy_redis.registry import Hook
from sisy_redis.transport import AsyncTransport, Steps, Transport
from sisy_redis.views import TaskView

__all__ = ["AsyncScheduler", "HistoryEntry", "Scheduler", "TaskView", "WorkerState", "define"]

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

    def pause(self, task: str | TaskView, *, by: str = "", reason: str = "") -> None:
        """Holds a task's schedule until ``resume``. Raises DoesNotExist."""
        return self._run(lambda space: views.pause(space, task, by, reason))

    def resume(self, task: str | TaskView) -> None:
        """Lets a task's schedule go on, strictly after now. Raises DoesNotExist."""
        return self._run(lambda space: views.resume(space, task))

    def trigger(self, task: str | TaskView, *, counts: bool = False) -> str:
        """Has a task run now, beside its schedule; returns the run's id. ``counts``: it costs an iteration.

        Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist.
        """
        return self._run(lambda space: views.trigger(space, task, counts))

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

    async def pause(self, task: str | TaskView, *, by: str = "", reason: str = "") -> None:
        """Holds a task's schedule until ``resume``. Raises DoesNotExist."""
        return await self._run(lambda space: views.pause(space, task, by, reason))

    async def resume(self, task: str | TaskView) -> None:
        """Lets a task's schedule go on, strictly after now. Raises DoesNotExist."""
        return await self._run(lambda space: views.resume(space, task))

    async def trigger(self, task: str | TaskView, *, counts: bool = False) -> str:
        """Has a task run now, beside its schedule; returns the run's id. ``counts``: it costs an iteration.

        Raises TaskBusy when the task forbids overlap and has an open run, DoesNotExist.
        """
        return await self._run(lambda space: views.trigger(space, task, counts))

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
