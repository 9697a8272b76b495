"""What happened, as values: the journals that callables wrote outside Redis, the ledger's lines, and what tasks were to do."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENDINGS = frozenset(("ok", "failed", "timeout", "cancelled", "lost"))
TAKEN_BACK = frozenset(("redelivered", "lost", "cancelled"))


@dataclass(frozen=True, slots=True)
class Periodic:
    """Every ``step_ms``, at ``offset_ms`` after its multiples. Arithmetic of its own: no planner checks itself here."""

    step_ms: int
    offset_ms: int = 0

    def instants(self, after_ms: int, until_ms: int) -> range:
        """Those in (after, until]."""
        first = after_ms + 1 + (self.offset_ms - after_ms - 1) % self.step_ms
        return range(first, until_ms + 1, self.step_ms)


@dataclass(frozen=True, slots=True)
class Once:
    """One instant."""

    at_ms: int

    def instants(self, after_ms: int, until_ms: int) -> range:
        return range(self.at_ms, self.at_ms + 1) if after_ms < self.at_ms <= until_ms else range(0)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A schedule that came into force at some moment of the server's clock in [``from_ms``, ``by_ms``]."""

    schedule: Periodic | Once
    from_ms: int
    by_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One generation of a task, as its user defined it and as far as its user knows.

    ``decided_until_ms``: every instant up to it has to be accounted for, None where only what comes before the last
    decided one can be judged. ``triggers``: the least and the most extra runs that were asked for (a lost reply leaves a
    doubt). ``attempts``: tries that fail before a run of it does, 0 where that is not known.
    """

    id: str
    generation: str
    epochs: tuple[Epoch, ...]
    forbids_overlap: bool = False
    iterations: int = 0
    has_timeout: bool = False
    attempts: int = 0
    is_deleted: bool = False
    has_ended: bool = False
    decided_until_ms: int | None = None
    triggers: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a callable. ``start`` and ``end``: seconds on the machine's monotonic clock, no worker's wall clock."""

    run_id: str
    token: int
    number: int
    nominal_ms: int
    pid: int
    start: float
    end: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger; ``position`` is its place in the order in which the server wrote them."""

    position: int
    kind: str
    task_id: str
    generation: str
    what: str
    run_id: str = ""
    attempt: int = 0
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """The server's clock: its milliseconds are ``1000 * monotonic + offset``, with each offset from a monotonic instant on.

    The first offset is that of the time before, too.
    """

    steps: tuple[tuple[float, float], ...]

    def latest(self, at: float) -> float:
        """The latest reading it has ever shown by then: cursors only rise, so what was due once is due."""
        until = [*(since for since, _ in self.steps[1:]), at]
        begun = 1 + sum(since <= at for since, _ in self.steps[1:])
        return max(1000 * min(end, at) + offset for (_, offset), end in zip(self.steps[:begun], until, strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything the checker is told. ``dump``: the namespace at the end, kind of key -> its members."""

    tasks: tuple[TaskFacts, ...]
    attempts: tuple[Attempt, ...]
    lines: tuple[Line, ...]
    clock: Clock | None = None
    dump: Mapping[str, frozenset[str]] = field(default_factory=dict)


def split_run(run_id: str) -> tuple[str, str, str]:
    """A run's task id, generation and instant; the last is ``t…`` for a triggered one."""
    task_id, generation, instant = run_id.rsplit(":", 2)
    return task_id, generation, instant


def read_journals(paths: Iterable[Path]) -> tuple[Attempt, ...]:
    """The attempts of some journals, in order of their starts."""
    found: dict[tuple[str, int, int, int], Attempt] = {}
    for path in paths:
        for index, text in enumerate(path.read_bytes().splitlines()):
            row = json.loads(text)
            key = (row["run"], row["token"], row["pid"], row["thread"])
            if row["event"] == "start":
                # A second start under the same token stays a second attempt: the checker must see it.
                shown = key if key not in found else (*key[:3], -index)
                found[shown] = _started(row)
            else:
                began = found[key]
                end = (row["at"], row["event"])
                found[key] = Attempt(
                    began.run_id, began.token, began.number, began.nominal_ms, began.pid, began.start, *end
                )
    return tuple(sorted(found.values(), key=lambda attempt: attempt.start))


def _started(row: Mapping[str, Any]) -> Attempt:
    return Attempt(row["run"], row["token"], row["attempt"], row["nominal_ms"], row["pid"], row["at"])


def read_line(position: int, text: str) -> Line:
    """A line of the ledger as the scripts write it; fields after those known here are ignored."""
    kind, *rest = text.split("\t")
    if kind == "run":
        task_id, generation, _ = split_run(rest[0])
        return Line(position, kind, task_id, generation, rest[1], rest[0], int(rest[2]))
    if kind == "skip":
        count, first, last = (int(number) for number in rest[3:6])
        return Line(position, kind, rest[0], rest[1], rest[2], count=count, first_ms=first, last_ms=last)
    return Line(position, kind, rest[0], rest[1], rest[2])
