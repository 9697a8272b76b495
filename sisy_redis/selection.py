"""``Task.objects``: finding tasks, page by page."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sisy_redis import context, queries
from sisy_redis.definitions import Definition, Overlap
from sisy_redis.errors import DoesNotExist, MultipleObjectsReturned
from sisy_redis.fields import READABLE, check_text, fields_of_definition
from sisy_redis.queries import TaskState

__all__ = ["Objects", "Selection"]

T = TypeVar("T")
Make = Callable[[Any, TaskState], T]


@dataclass(frozen=True, slots=True)
class Selection(Generic[T]):
    """Tasks that match, read from Redis a page at a time each time it is iterated, in the order of their labels.

    A task that exists all the while and keeps its label is met exactly once.
    """

    make: Make[T]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[T]:
        for state in self._states():
            yield self.make(state.stored, state)

    def first(self) -> T | None:
        """One of them, or None."""
        return next(iter(self), None)

    def exists(self) -> bool:
        """Whether there is any."""
        return next(self._states(), None) is not None

    def count(self) -> int:
        """How many there are; reads them all."""
        return sum(1 for _ in self._states())

    def filter(self, **conditions: Any) -> "Selection[T]":
        """Those of them that match these conditions too; for a name given before, the new value counts."""
        return Selection(self.make, {**self.conditions, **_checked(conditions)})

    def _states(self) -> Iterator[TaskState]:
        session = context.session()
        wanted = self.conditions.get("id")
        if wanted is not None:
            states = session.transport.run(queries.load_states(session.space, [wanted]))
            yield from (state for state in states if self._matches(state.stored.definition))
            return
        for p in session.space.all_partitions():
            after: str | None = None
            while True:
                page = queries.page_by_label(p, after, self.conditions.get("label"))
                after, ids = session.transport.run(page)
                for state in session.transport.run(queries.load_states(session.space, ids)):
                    if self._matches(state.stored.definition):
                        yield state
                if after is None:
                    break

    def _matches(self, definition: Definition) -> bool:
        shown = {"id": definition.id, "label": definition.label, "schedule": definition.schedule}
        shown |= fields_of_definition(definition) | {"allow_overlap": definition.overlap is Overlap.ALLOW}
        return all(shown[name] == value for name, value in self.conditions.items())


class Objects(Generic[T]):
    """Finds saved tasks, as sisy's users are used to from Django."""

    def __init__(self, make: Make[T]) -> None:
        self._make = make

    def all(self) -> Selection[T]:
        """Every task."""
        return Selection(self._make)

    def filter(self, **conditions: Any) -> Selection[T]:
        """The tasks whose public fields (or ``id``, ``pk``) equal what is given.

        Raises TypeError for an unknown name.
        """
        return self.all().filter(**conditions)

    def get(self, **conditions: Any) -> T:
        """The one task with this ``id=`` (or ``pk=``) or ``label=``. Raises DoesNotExist or MultipleObjectsReturned."""
        if not conditions:
            raise TypeError("get() needs id= or label=")
        found: list[T] = []
        for task in self.filter(**conditions):
            found.append(task)
            if len(found) > 1:
                raise MultipleObjectsReturned(f"more than one task matches {_shown(conditions)}; get it by id")
        if not found:
            raise DoesNotExist(f"no task matches {_shown(conditions)}")
        return found[0]

    def count(self) -> int:
        """How many tasks there are; reads them all."""
        return self.all().count()


def _checked(conditions: Mapping[str, Any]) -> dict[str, Any]:
    found = {"id" if name == "pk" else name: value for name, value in conditions.items()}
    known = {"id", "label", "schedule", "allow_overlap", *READABLE}
    unknown = sorted(found.keys() - known)
    if unknown:
        raise TypeError(f"tasks cannot be filtered by {unknown[0]!r}; use {', '.join(sorted(known))}")
    for name in ("id", "label"):
        if name in found:
            check_text(name, found[name])
    return found


def _shown(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in conditions.items())
