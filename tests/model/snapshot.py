"""A dump of the laboratory, read: what is stored, as values that can be compared field by field."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sisy_redis import calls, codec
from sisy_redis.calls import PlanState
from sisy_redis.definitions import Definition, Stored
from sisy_redis.keys import task_id_of

WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Run:
    """An open run. ``place`` is the boot that holds it, or WAITING; ``token`` is 0 while it waits."""

    place: str
    number: int
    losses: int
    nominal_ms: int
    queue: str
    token: int = 0
    is_started: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Boot:
    """A registered worker as the server knows it."""

    is_up: bool
    seq: int
    lease_until_ms: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger: run, skip or ended."""

    kind: str
    subject: str
    what: str
    generation: int = 0
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything stored, at one moment."""

    dump: dict[str, Any]
    tasks: dict[str, Stored] = field(default_factory=dict)
    plans: dict[str, PlanState] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    remaining: dict[str, int] = field(default_factory=dict)
    boots: dict[str, Boot] = field(default_factory=dict)

    def column(self, kind: str) -> dict[bytes, Any]:
        """A hash or a sorted set as it is stored."""
        found: dict[bytes, Any] = self.dump.get(kind, {})
        return found

    def meta(self, name: str) -> int:
        """A number of ``meta``, 0 where there is none."""
        return int(self.column("meta").get(name.encode(), 0))

    def holds(self, task_id: str) -> bool:
        """Whether the task's schedule is held: paused, or not enabled."""
        return task_id.encode() in self.column("paused") or not self.tasks[task_id].definition.enabled

    def open_runs(self, task_id: str, generation: int) -> set[str]:
        """The open runs of one generation of a task."""
        return {run_id for run_id in self.runs if owner_of(run_id) == (task_id, generation)}

    def lines_since(self, before: "Snapshot") -> list[Line]:
        """What the ledger gained."""
        old = len(before.dump.get("history", []))
        entries = self.dump.get("history", [])[old:]
        return [_line(text) for _, fields in entries for text in fields[b"lines"].decode().split("\n")]


def owner_of(run_id: str) -> tuple[str, int]:
    """The task id and the generation that a run belongs to."""
    return task_id_of(run_id), int(run_id.rsplit(":", 2)[1])


def is_scheduled(run_id: str) -> bool:
    """An occurrence's run; others were triggered."""
    return run_id.rsplit(":", 1)[1].isdigit()


def read(dump: dict[str, Any]) -> Snapshot:
    """The dump as values."""
    tasks = {i.decode(): _task(i.decode(), record) for i, record in dump.get("tasks", {}).items()}
    return Snapshot(
        dump,
        tasks,
        {i.decode(): _plan(tasks[i.decode()], column) for i, column in dump.get("plan", {}).items()},
        dict(_runs(dump)),
        {i.decode(): int(left) for i, left in dump.get("remaining", {}).items()},
        {boot.decode(): _boot(row, dump["leases"][boot]) for boot, row in dump.get("workers", {}).items()},
    )


@lru_cache(maxsize=4096)
def _task(task_id: str, record: bytes) -> Stored:
    return codec.decode(task_id, record)


def _plan(stored: Stored, column: bytes) -> PlanState:
    return calls.plan_state(stored, column)


def _boot(row: bytes, lease_until: float) -> Boot:
    state, _lease, seq, *_ = row.decode().split(" ")
    return Boot(state == "up", int(seq), int(lease_until))


def _runs(dump: dict[str, Any]) -> Iterator[tuple[str, Run]]:
    for run_id, row in dump.get("waiting", {}).items():
        number, losses, nominal, _previous, queue = row.decode().split(" ")
        yield run_id.decode(), Run(WAITING, int(number), int(losses), int(nominal), queue)
    for kind, rows in dump.items():
        if kind.startswith("live:"):
            for run_id, row in rows.items():
                token, number, losses, started, seq, nominal, _previous, queue = row.decode().split(" ")
                numbers = int(number), int(losses), int(nominal)
                boot = kind.removeprefix("live:")
                yield run_id.decode(), Run(boot, *numbers, queue, int(token), started == "1", int(seq))


@lru_cache(maxsize=4096)
def _line(text: str) -> Line:
    kind, subject, what, *rest = text.split("\t")
    if kind == "skip":
        generation, reason = what, rest[0]
        return Line(kind, subject, reason, int(generation), *map(int, rest[1:]))
    if kind == "ended":
        return Line(kind, subject, rest[0], int(what))
    return Line(kind, subject, what)


def instants(definition: Definition, after_ms: int, until_ms: int) -> range:
    """A task's nominal instants in (after, until], for the schedules that the model knows by arithmetic."""
    step = STEPS[definition.schedule]
    anchor = (definition.anchor_ms or 0) if definition.schedule.startswith("@every") else 0
    low, high = max(after_ms, definition.start_ms - 1), min(until_ms, definition.end_ms - 1)
    first = anchor + ((low - anchor) // step + 1) * step if step else 0
    return range(first, high + 1, step) if step else range(0)


STEPS = {
    "@once": 0,
    "@every 7": 7_000,
    "@every 60": 60_000,
    "* * * * *": 60_000,
    "*/5 * * * *": 300_000,
    "0 * * * *": 3_600_000,
    "0 0 * * *": 86_400_000,
}
"""Every schedule the tests use, and the distance of its instants in ms (0: it has none of its own)."""
