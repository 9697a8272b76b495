"""A namespace on a real server, the messages between it and its callers, and the checks after every one of them.

Every message may be lost in three ways: its answer (LOST: it took effect, nobody heard), itself for a time (LATE: it arrives
after anything else), or it arrives again, verbatim, at any time. ``now`` is the server's clock, which can be set; ``passed``
is the time that really goes by, by which workers trust their leases.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from lab import T0, Lab, check
from runs_model import RunsModel
from snapshot import Snapshot, read
from tasks_model import TasksModel

from sisy_redis.calls import Call
from sisy_redis.errors import SisyError
from sisy_redis.keys import Space
from sisy_redis.transport import Steps

T = TypeVar("T")
HEARD, LOST, LATE = "heard", "lost", "late"
MOST_REPLIES = 400

# What a repetition of a call that took effect may touch: a lease, and what its first arrival left to be done.
_FREE = {"renew": {"meta", "leases"}, "leave": {"meta", "leases", "workers"}, "wake": {"wake"}}
_AS_NEW = {"reap", "replan", "move"}
_DONE = {
    "save": {"saved", "gone", "conflict", "stale"},
    "delete": {"deleted", "gone"},
    "pause": {"paused", "gone"},
    "resume": {"resumed", "gone"},
    "postpone": {"postponed"},
    "extend": {"planned"},
    "trigger": {"triggered", "gone"},
}


@dataclass
class World:
    """The server, its clock, and every message there ever was."""

    lab: Lab
    passed: int = 0
    latest: int = T0
    sent: list[Call[Any]] = field(default_factory=list)
    late: list[Call[Any]] = field(default_factory=list)
    runs: RunsModel = field(default_factory=RunsModel)
    tasks: TasksModel = field(default_factory=TasksModel)
    counts: dict[str, int] = field(default_factory=dict)
    _answers: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lab.is_checked = False
        self.now = T0
        self.state: Snapshot = read(self.lab.dump())

    @property
    def space(self) -> Space:
        return self.lab.space

    @property
    def now(self) -> int:
        """The server's clock."""
        return self.lab.now

    @now.setter
    def now(self, instant: int) -> None:
        self.lab.now = instant
        self.latest = max(self.latest, instant)

    def send(self, call: Call[T], fate: str = HEARD) -> T | None:
        """The answer to the call, None where it was lost or has not arrived yet."""
        if fate == LATE and call.script:
            self.late.append(call)
            return None
        answer = self.arrive(call)
        return None if fate == LOST and call.script else answer

    def arrive(self, call: Call[T]) -> T:
        """The call is executed, at the server's present time, and what it did is compared with the model."""
        if call.script is None:
            answer: Any = self.now if call.args == ("TIME",) else self.lab.once(call)
            return answer
        name = call.script.name
        stamped, key = _stamped(call, self.now)
        before = self.state
        answer = self.lab.once(stamped)
        after = self.state = read(self.lab.dump())
        if key not in self._answers:
            self.sent.append(call)
        elif _is_done(name, self._answers[key]):
            _check_repetition(name, self._answers[key], answer, before, after)
        if not _is_done(name, self._answers.get(key)):
            self._answers[key] = answer
        self.counts[name] = self.counts.get(name, 0) + 1
        lines = after.lines_since(before)
        self.runs.observe(stamped, answer, before, after, lines)
        self.tasks.observe(name, before, after, lines, self.now)
        check(after.dump)
        assert len(after.column("replies")) <= MOST_REPLIES
        return answer


@dataclass
class Producer:
    """Somebody who saves, deletes, pauses, …: an operation on its way. ``batch`` is what it sends until it hears."""

    steps: Steps[Any]
    batch: list[Call[Any]] | None = None
    result: Any = None
    error: SisyError | None = None

    def go_on(self, world: World, fate: str) -> bool:
        """Sends the present batch, and the next one where all of it was answered. True when the operation is over."""
        try:
            if self.batch is None:
                self.batch = list(next(self.steps))
            answers = [world.send(call, fate) for call in self.batch]
            if any(answer is None for answer in answers):
                return False
            self.batch = list(self.steps.send(answers))
            return False
        except StopIteration as done:
            self.result = done.value
        except SisyError as error:
            self.error = error
        return True


def _stamped(call: Call[T], now: int) -> tuple[Call[T], tuple[Any, ...]]:
    """The call as the server sees it at an instant, and what tells it from others."""
    assert call.script is not None
    args = list(call.args)
    names = call.script.args.names
    if "now_ms" in names:
        args[names.index("now_ms")] = ""
    key = (call.script.name, call.keys, tuple(args))
    if "now_ms" in names:
        args[names.index("now_ms")] = str(now)
    return Call(call.script, call.keys, tuple(args), call.decode), key


def _is_done(name: str, answer: Any) -> bool:
    """Whether the call took effect, or can never take any: one that was refused for the time being may, later."""
    if answer is None:
        return False
    if name == "claim":
        return bool(answer.status == "ok")
    if name == "settle":
        return not any(row.startswith("elsewhere") for row in answer)
    if name == "register":
        return answer.boot is not None
    if name == "save":
        return all(row.status in _DONE[name] for row in answer)
    if name == "extend":
        return all(row in _DONE[name] for row in answer)
    if name in _DONE:
        status = answer[0] if isinstance(answer, tuple) else answer
        return status in _DONE[name]
    return name not in _AS_NEW


def _check_repetition(name: str, first: Any, again: Any, before: Snapshot, after: Snapshot) -> None:
    free = _FREE.get(name, set())
    kinds = before.dump.keys() | after.dump.keys()
    changed = {kind for kind in kinds if before.dump.get(kind) != after.dump.get(kind)}
    assert changed <= free, f"{name}, sent again, changed {changed}"
    if name in ("trigger", "delete", "pause", "resume"):
        status = again[0] if isinstance(again, tuple) else again
        assert again == first or status == "expired", f"{name}, sent again, answered {again} after {first}"
