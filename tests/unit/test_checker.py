"""The history checker accepts a good history, and rejects one that breaks any single promise."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from checker import check
from history import Attempt, Clock, Epoch, History, Line, Once, Periodic, TaskFacts, read_journals, read_line

STEP = 1000
T0 = 1_000_000_000_000
GENERATION = "1000"
RUN = f"task:{GENERATION}"
FACTS = TaskFacts(
    id="task",
    generation=GENERATION,
    epochs=(Epoch(Periodic(STEP), T0 + 10, T0 + 20),),
    forbids_overlap=True,
    iterations=4,
    has_ended=True,
    triggers=(0, 1),
)
# The server's clock is at T0 when the monotonic one is at 0.
CLOCK = Clock(((0.0, float(T0)),))


def _attempt(second: int, number: int = 1, at: float | None = None, how: str = "done", token_us: int = 5) -> Attempt:
    start = second + 0.1 if at is None else at
    nominal = T0 + second * STEP
    token = int((T0 + start * 1000) * 1000) + token_us
    return Attempt(f"{RUN}:{nominal}", token, number, nominal, 7, start, start + 0.5 if how else None, how)


def _lines(*texts: str) -> tuple[Line, ...]:
    return tuple(read_line(position, text) for position, text in enumerate(texts))


def _run_line(second: int, what: str, number: int = 1) -> str:
    nominal = T0 + second * STEP
    return f"run\t{RUN}:{nominal}\t{what}\t{number}\t{nominal}\t0\t5\tworker\tdefault"


def _skip_line(reason: str, count: int, first: int, last: int) -> str:
    return f"skip\ttask\t{GENERATION}\t{reason}\t{count}\t{T0 + first * STEP}\t{T0 + last * STEP}"


ENDED = f"ended\ttask\t{GENERATION}\titerations\t"
GOOD = History(
    tasks=(FACTS,),
    attempts=(
        _attempt(1),
        # Killed in the middle of it, and begun again by another worker.
        _attempt(2, how=""),
        _attempt(2, number=2, at=5.0),
        # Frozen past its lease, it ended long after it had been taken back.
        replace(_attempt(6), end=20.0),
        _attempt(6, number=2, at=8.1),
        _attempt(9),
    ),
    lines=_lines(
        _run_line(1, "ok"),
        _run_line(2, "redelivered"),
        _skip_line("overlap", 2, 3, 4),
        _run_line(2, "ok", 2),
        _skip_line("coalesced", 1, 5, 5),
        _run_line(6, "redelivered"),
        _skip_line("overlap", 2, 7, 8),
        _run_line(6, "ok", 2),
        _run_line(9, "ok"),
        ENDED,
    ),
    clock=CLOCK,
    dump={"tasks": frozenset(), "history": frozenset(), "replies": frozenset({"op"})},
)


def _promises(history: History) -> set[str]:
    return {violation.promise for violation in check(history).violations}


def test_a_good_history_is_accepted_and_counted() -> None:
    verdict = check(GOOD)
    assert verdict.violations == []
    assert verdict.counts["late work"] == 1
    assert verdict.counts["runs"] == 4 and verdict.counts["attempts"] == 6
    assert verdict.counts["run redelivered"] == 2


def _without_line(position: int) -> History:
    return replace(GOOD, lines=tuple(line for line in GOOD.lines if line.position != position))


def _with_lines(*texts: str) -> History:
    return replace(GOOD, lines=(*GOOD.lines, *(replace(line, position=100) for line in _lines(*texts))))


def _with_attempt(index: int, **changes: object) -> History:
    attempts = list(GOOD.attempts)
    attempts[index] = replace(attempts[index], **changes)  # type: ignore[arg-type]
    return replace(GOOD, attempts=tuple(attempts))


def _adding(*attempts: Attempt) -> History:
    return replace(GOOD, attempts=(*GOOD.attempts, *attempts))


def _lines_swapped(one: int, other: int) -> History:
    lines = list(GOOD.lines)
    lines[one], lines[other] = replace(lines[other], position=one), replace(lines[one], position=other)
    return replace(GOOD, lines=tuple(lines))


def _facts(**changes: object) -> History:
    return replace(GOOD, tasks=(replace(FACTS, **changes),))  # type: ignore[arg-type]


BAD: dict[str, tuple[str, Callable[[], History]]] = {
    "two runs at the same time": ("overlap", lambda: _with_attempt(0, end=5.5)),
    "a run that never ended while the next began": ("overlap", lambda: _with_attempt(0, end=None)),
    "a run that goes on while a later one begins": ("overlap", lambda: _with_attempt(2, end=9.2)),
    "a run that ended in the ledger after the next": ("overlap", lambda: _lines_swapped(7, 8)),
    "an older run granted again": ("overlap", lambda: _with_attempt(2, token=GOOD.attempts[3].token + 1)),
    "a retry without a higher token": ("tokens", lambda: _with_attempt(2, token=GOOD.attempts[1].token - 1)),
    "a later run without a higher token": ("tokens", lambda: _with_attempt(5, token=GOOD.attempts[4].token - 1)),
    "one token for two runs": ("tokens", lambda: _with_attempt(5, token=GOOD.attempts[0].token)),
    "an occurrence nobody knows of": ("lost", lambda: _without_line(4)),
    "an occurrence after the last one that was decided": (
        "lost",
        lambda: _facts(iterations=0, decided_until_ms=T0 + 10_000),
    ),
    "a range that tells of too many": ("lost", lambda: _with_lines(_skip_line("limit", 9, 10, 12))),
    "an occurrence that ran and was skipped": ("twice", lambda: _with_lines(_skip_line("overlap", 1, 9, 9))),
    "an attempt begun twice": ("once", lambda: _adding(replace(GOOD.attempts[0], pid=8, start=1.2))),
    "an attempt number given twice": ("once", lambda: _adding(_attempt(9, at=11.0))),
    "a run before its time by its token": ("early", lambda: _with_attempt(0, token=(T0 + 999) * 1000)),
    "a run before its time by the clock": ("early", lambda: replace(GOOD, clock=Clock(((0.0, T0 - 9e6),)))),
    "a run for no instant": ("expected", lambda: _facts(epochs=(Epoch(Periodic(7 * STEP), T0 + 10, T0 + 20),))),
    "a run from before the task": ("expected", lambda: _facts(epochs=(Epoch(Periodic(STEP), T0 + 1001, T0 + 1002),))),
    "a run of no task": ("expected", lambda: replace(GOOD, tasks=())),
    "a run too many": ("iterations", lambda: _facts(iterations=3)),
    "a run too few": ("iterations", lambda: _facts(iterations=5)),
    "a run that never ended": ("ended once", lambda: _without_line(8)),
    "a run that ended twice": ("ended once", lambda: _with_lines(_run_line(9, "failed"))),
    "a run that went on after its end": ("ended once", lambda: _with_lines(_run_line(9, "retry"))),
    "an attempt after the end of its run": ("ended once", lambda: _adding(_attempt(9, number=2, at=11.0))),
    "a task that left without a record": ("ended once", lambda: _without_line(9)),
    "a task that left twice": ("ended once", lambda: _with_lines(ENDED)),
    "a run that is ok but never came to its end": ("ran", lambda: _with_attempt(5, how="raised")),
    "a late settlement that was accepted": ("late work", lambda: _with_lines(_run_line(6, "retry"))),
    "a trigger that nobody asked for": (
        "twice",
        lambda: replace(
            _with_lines(*(f"run\t{RUN}:t{n}-aa\tcancelled\t1\t{T0}\t0\t5\tworker\tdefault" for n in (1, 2)))
        ),
    ),
    "a trigger that was lost": ("lost", lambda: _facts(triggers=(1, 1))),
    "a field of a task that has ended": ("leak", lambda: replace(GOOD, dump={"open": frozenset({"task"})})),
    "a run nobody will take": ("leak", lambda: replace(GOOD, dump={"waiting": frozenset({RUN + ":5"})})),
    "a task that has ended and is still there": ("leak", lambda: replace(GOOD, dump={"tasks": frozenset({"task"})})),
    "a key nobody knows": ("leak", lambda: replace(GOOD, dump={"lock": frozenset()})),
    "a task in quarantine": ("leak", lambda: replace(GOOD, dump={"quarantine": frozenset({"other"})})),
}


@pytest.mark.parametrize("what", BAD)
def test_a_history_is_rejected_for(what: str) -> None:
    promise, make = BAD[what]
    assert promise in _promises(make())


def test_a_run_that_failed_after_too_few_tries_is_rejected() -> None:
    failed = replace(GOOD, lines=(*GOOD.lines[:8], read_line(8, _run_line(9, "failed")), GOOD.lines[9]))
    assert _promises(replace(failed, tasks=(replace(FACTS, attempts=1),))) == set()
    assert _promises(replace(failed, tasks=(replace(FACTS, attempts=2),))) == {"retries"}


def test_what_a_thread_does_after_its_timeout_is_late_work() -> None:
    lines = tuple(
        replace(line, what="timeout") if line.what == "ok" and line.position == 0 else line for line in GOOD.lines
    )
    late = replace(_with_attempt(0, end=5.5), lines=lines)
    assert "overlap" in _promises(late)
    assert _promises(replace(late, tasks=(replace(FACTS, has_timeout=True),))) == set()


def test_a_task_that_allows_overlap_may_overlap_itself_but_no_run_may() -> None:
    allowing = (replace(FACTS, forbids_overlap=False),)
    assert _promises(replace(_with_attempt(0, end=5.5), tasks=allowing)) == set()
    own = [replace(line, what="retry") if line.what == "redelivered" else line for line in GOOD.lines]
    assert "overlap" in _promises(replace(GOOD, lines=tuple(own), tasks=allowing))


def test_an_edit_leaves_a_doubt_only_between_the_moments_it_was_made() -> None:
    slower = Epoch(Periodic(3 * STEP, T0 % (3 * STEP)), T0 + 5500, T0 + 6500)
    edited = _facts(epochs=(*FACTS.epochs, slower))
    # The instant at 6 s may have been decided before or after the edit; those at 7 and 8 s are instants no more.
    assert _promises(edited) == {"lost"}
    lines = tuple(line for line in GOOD.lines if line.position != 6)
    assert _promises(replace(edited, lines=lines)) == set()


def test_a_one_off_runs_once() -> None:
    facts = TaskFacts(
        id="task", generation=GENERATION, epochs=(Epoch(Once(T0 + STEP), T0, T0),), decided_until_ms=T0 + 2 * STEP
    )
    ended = f"ended\ttask\t{GENERATION}\tend\t"
    good = History(tasks=(facts,), attempts=(_attempt(1),), lines=_lines(_run_line(1, "ok"), ended), clock=CLOCK)
    assert _promises(good) == set()
    assert _promises(replace(good, attempts=(), lines=good.lines[1:])) == {"lost"}


def test_a_step_of_the_servers_clock_makes_nothing_early_that_was_due_before() -> None:
    back = Clock(((0.0, float(T0)), (1.0, T0 - 3.6e6)))
    assert back.latest(0.5) == T0 + 500
    assert back.latest(2.0) == T0 + 1000
    assert Clock(((0.0, float(T0)), (1.0, T0 + 3.6e6))).latest(2.0) == T0 + 3.6e6 + 2000


def test_journals_are_read_in_the_order_of_their_starts(tmp_path: Path) -> None:
    def row(event: str, at: float, token: int) -> str:
        shared = {"run": f"{RUN}:5", "token": token, "attempt": 1, "nominal_ms": 5, "pid": 1, "thread": 2}
        return json.dumps({**shared, "event": event, "at": at})

    (tmp_path / "a").write_text("\n".join((row("start", 3.0, 9), row("done", 4.0, 9))) + "\n")
    (tmp_path / "b").write_text("\n".join((row("start", 1.0, 8), row("start", 1.5, 8))) + "\n")
    read = read_journals([tmp_path / "a", tmp_path / "b"])
    assert [(a.token, a.start, a.end, a.how) for a in read] == [
        (8, 1.0, None, ""),
        (8, 1.5, None, ""),
        (9, 3.0, 4.0, "done"),
    ]


def test_an_attempt_that_was_lost_before_it_began_may_be_given_again_under_its_number() -> None:
    lines = list(GOOD.lines)
    lost = [read_line(1, _run_line(2, what, number)) for what, number in (("redelivered", 1), ("redelivered", 2))]
    lines[1:2] = lost
    assert _promises(replace(GOOD, lines=tuple(lines))) == set()
