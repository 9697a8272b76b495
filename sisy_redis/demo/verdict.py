"""Compares what had to happen with the journal, which the callables wrote, and the ledger, which Redis kept. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sisy_redis.demo.seeds import SLOW, Expected
from sisy_redis.queries import HistoryEntry

Note = dict[str, Any]
_TERMINAL = ("ok", "failed", "timeout", "cancelled", "lost")


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task: the runs it had to have and had, each id as often as it ended; skipped: recorded as overlapping."""

    id: str
    expected: tuple[str, ...]
    actual: tuple[str, ...]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A run whose worker was killed in the middle of it, and which ended elsewhere."""

    run_id: str
    from_pid: int
    to_pid: int
    attempts: tuple[int, int]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole demo. ``problems`` is empty when every expected run happened once and one was taken over."""

    tasks: tuple[TaskResult, ...]
    killed_pid: int | None
    taken_over: TakenOver | None
    problems: tuple[str, ...] = field(default=())


def judge(
    expected: Sequence[Expected], journal: Sequence[Note], history: Sequence[HistoryEntry], killed: Note | None
) -> Verdict:
    """What became of every expected run. ``killed``: the journal's line of the run that lost its worker."""
    known = {task.id for task in expected}
    tasks = tuple(_task(task, journal, [h for h in history if h.task_id == task.id]) for task in expected)
    problems = [problem for task in tasks for problem in task.problems]
    problems += [f"a run of an unknown task: {n['run_id']}" for n in journal if _task_of(n["run_id"]) not in known]
    taken_over = _taken_over(journal, killed) if killed else None
    if killed is None:
        problems.append("no worker could be killed in the middle of a run")
    elif taken_over is None:
        problems.append(f"the run {killed['run_id']} of the killed worker {killed['pid']} did not end elsewhere")
    problems += _overlaps([n for n in journal if _task_of(n["run_id"]) == SLOW])
    return Verdict(tasks, killed["pid"] if killed else None, taken_over, tuple(problems))


def _task(task: Expected, journal: Sequence[Note], history: Sequence[HistoryEntry]) -> TaskResult:
    ended = [h for h in history if h.kind == "run" and h.what in _TERMINAL]
    actual = tuple(sorted(h.run_id or "" for h in ended))
    skipped = tuple(run for run in task.run_ids if task.may_skip and _is_skipped(run, history))
    due = tuple(run for run in task.run_ids if run not in skipped)
    problems = [f"{h.run_id} ended as {h.what}, not ok" for h in ended if h.what != "ok"]
    problems += _differences(due, actual, "in the ledger")
    losses = Counter(h.run_id for h in history if h.what == "redelivered")
    completed = Counter(n["run_id"] for n in journal if n["event"] == "end" and _task_of(n["run_id"]) == task.id)
    problems += _differences(due, _without_repeats(completed, losses), "in the journal")
    problems += [
        f"{h.run_id} needed {h.attempt} attempts, not {task.attempts}"
        for h in ended
        if h.attempt - losses[h.run_id] != task.attempts
    ]
    return TaskResult(task.id, due, actual, skipped, tuple(problems))


def _differences(expected: Iterable[str], actual: Iterable[str], where: str) -> list[str]:
    wanted, found = Counter(expected), Counter(actual)
    problems = [f"missing {where}: {run}" for run in sorted((wanted - found).keys())]
    for run in sorted((found - wanted).keys()):
        problems.append(f"{'doubled' if run in wanted else 'unexpected'} {where}: {run}")
    return problems


def _without_repeats(completed: "Counter[str]", losses: "Counter[str | None]") -> list[str]:
    """A callable that ended just before its worker was lost runs again: at least once is the promise there."""
    return [run for run, times in completed.items() for _ in range(max(1, times - losses[run]))]


def _is_skipped(run: str, history: Sequence[HistoryEntry]) -> bool:
    nominal = int(run.rpartition(":")[2])
    return any(
        h.kind == "skip" and h.what == "overlap" and (h.nominal_ms or 0) <= nominal <= (h.last_ms or 0) for h in history
    )


def _taken_over(journal: Sequence[Note], killed: Note) -> TakenOver | None:
    for note in journal:
        is_other = note["pid"] != killed["pid"] and note["token"] > killed["token"]
        if note["run_id"] == killed["run_id"] and note["event"] == "end" and is_other:
            attempts, tokens = (killed["attempt"], note["attempt"]), (killed["token"], note["token"])
            return TakenOver(killed["run_id"], killed["pid"], note["pid"], attempts, tokens)
    return None


def _overlaps(notes: Sequence[Note]) -> list[str]:
    """Runs of the task that forbids overlap which began while another one was open."""
    problems, open_run = [], None
    for note in notes:
        if note["event"] == "start":
            if open_run not in (None, note["run_id"]):
                problems.append(f"{note['run_id']} began while {open_run} was open")
            open_run = note["run_id"]
        elif note["run_id"] == open_run:
            open_run = None
    return problems


def _task_of(run_id: str) -> str:
    return run_id.rsplit(":", 2)[0]
