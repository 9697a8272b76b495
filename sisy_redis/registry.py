"""What the modules of this process declared: ``@scheduler.task`` callables with callbacks and tasks, and worker hooks.

Filled by imports, read by the worker. Definitions are made when asked for: a decorator runs before its function has a
name in its module.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sisy_redis.definitions import Definition
from sisy_redis.errors import TaskError

__all__ = [
    "Declared",
    "Hook",
    "add_worker_start_hook",
    "add_worker_stop_hook",
    "clear",
    "declare",
    "declared",
    "definitions",
    "registered",
    "worker_start_hooks",
    "worker_stop_hooks",
]

Hook = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """A task that was declared on a callable, and what is called, with its message, when a run of it ended."""

    path: str
    make: Callable[[], Definition]
    on_success: Hook | None = None
    on_failure: Hook | None = None


_registered: dict[str, Callable[..., Any]] = {}
_declared: dict[str, Declared] = {}
_start_hooks: dict[str, Hook] = {}
_stop_hooks: dict[str, Hook] = {}


def declare(the_callable: Callable[..., Any], task_id: str, task: Declared) -> None:
    """Registers a callable under its dotted path, and a task with this id; a reloaded module replaces its own.

    Raises TaskError when another callable declared a task with this id.
    """
    path, known = task.path, _declared.get(task_id)
    if known is not None and known.path != path:
        raise TaskError(f"{known.path} and {path} both declare a task with the id {task_id!r}; give one of them id=")
    _registered[path] = the_callable
    _declared[task_id] = task


def registered() -> Mapping[str, Callable[..., Any]]:
    """Every registered callable by its dotted path."""
    return dict(_registered)


def declared(task_id: str, path: str) -> Declared | None:
    """What was declared as the task with this id on this callable."""
    found = _declared.get(task_id)
    return found if found is not None and found.path == path else None


def definitions() -> tuple[Definition, ...]:
    """The declared tasks, checked now. Raises TaskError for the first that cannot be."""
    return tuple(task.make() for task in _declared.values())


def add_worker_start_hook(hook: Hook) -> None:
    """Has ``hook`` called, without arguments, by every worker process before its first claim."""
    _start_hooks[_name(hook)] = hook


def add_worker_stop_hook(hook: Hook) -> None:
    """Has ``hook`` called, without arguments, by every worker process after it drained."""
    _stop_hooks[_name(hook)] = hook


def worker_start_hooks() -> tuple[Hook, ...]:
    """In the order they were added."""
    return tuple(_start_hooks.values())


def worker_stop_hooks() -> tuple[Hook, ...]:
    """In the order they were added."""
    return tuple(_stop_hooks.values())


def clear() -> None:
    """Forgets everything; for tests."""
    for known in (_registered, _declared, _start_hooks, _stop_hooks):
        known.clear()


def _name(hook: Hook) -> str:
    return f"{hook.__module__}.{hook.__qualname__}"
