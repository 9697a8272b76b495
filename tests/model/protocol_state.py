"""The states of the modelled claim protocol, and what holds in each of them."""

from typing import NamedTuple


class Run(NamedTuple):
    """One occurrence of one generation of a task."""

    task: int
    generation: int


class Live(NamedTuple):
    """An attempt as the server knows it."""

    boot: int
    run: Run
    token: int
    seq: int


class Boot(NamedTuple):
    """A registered worker. ``renewal`` is the newest that arrived."""

    number: int
    is_dead: bool = False
    is_expired: bool = False
    seq: int = 0
    renewal: int = 0


class Message(NamedTuple):
    """``what`` to or from a boot; ``number`` is a claim's seq or a renewal's number."""

    what: str
    boot: int
    number: int = 0
    attempts: frozenset[tuple[Run, int]] = frozenset()
    run: Run | None = None
    token: int = 0


class Worker(NamedTuple):
    """What a process believes. It trusts its lease while a renewal that was acknowledged has not lapsed."""

    boot: int = 0
    seq: int = 0
    asked: int = 0
    renewals: int = 0
    acknowledged: int = 0
    lapsed: int = -1
    holds: frozenset[tuple[Run, int]] = frozenset()
    unsettled: frozenset[tuple[Run, int]] = frozenset()

    @property
    def trusts(self) -> bool:
        return self.boot > 0 and self.acknowledged > self.lapsed


class State(NamedTuple):
    """Everything: the server, the workers, and every message that was ever sent."""

    token: int = 1
    boots_given: int = 0
    generations_given: int = 0
    generations: tuple[int, ...] = ()
    is_decided: tuple[bool, ...] = ()
    counts: tuple[int, ...] = ()
    waiting: frozenset[Run] = frozenset()
    live: frozenset[Live] = frozenset()
    boots: frozenset[Boot] = frozenset()
    ended: frozenset[Run] = frozenset()
    workers: tuple[Worker, ...] = (Worker(), Worker())
    net: frozenset[Message] = frozenset()


class Violation(Exception):
    """An invariant does not hold."""


def check(s: State) -> None:
    """Raises Violation."""
    live = {(attempt.boot, attempt.run, attempt.token) for attempt in s.live}
    open_runs = [attempt.run for attempt in s.live] + list(s.waiting)
    hold(len(set(open_runs)) == len(open_runs), "a run is open twice")
    hold(not s.ended & set(open_runs), "a run is open that ended")
    for task in range(len(s.generations)):
        current = [run for run in open_runs if run == (task, s.generations[task])]
        hold(len(current) == s.counts[task], "a task's open runs are not counted")
        hold(len(current) <= 1, "a task that forbids overlap has two open runs")
    registered = {boot.number for boot in s.boots}
    hold(all(attempt.boot in registered for attempt in s.live), "an attempt is held by a boot that nobody reaps")
    for w in s.workers:
        if not w.trusts:
            continue
        hold(all((w.boot, *held) in live for held in w.holds), "a worker that trusts its lease runs another's attempt")
        for attempt in s.live:
            if attempt.boot == w.boot:
                is_known = (attempt.run, attempt.token) in w.holds | w.unsettled or attempt.seq == w.asked
                hold(is_known, "an attempt is granted of which its worker never hears")


def hold(condition: bool, otherwise: str) -> None:
    """Raises Violation unless the condition holds."""
    if not condition:
        raise Violation(otherwise)
