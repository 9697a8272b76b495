"""Why a task runs or does not, and what became of one of its occurrences: sentences made of facts. Pure."""

from dataclasses import dataclass

from sisy_redis import clock, planning
from sisy_redis.definitions import Definition, Overlap
from sisy_redis.errors import ScheduleError
from sisy_redis.inspection import Facts, OpenRun
from sisy_redis.queries import HistoryEntry

__all__ = ["Explanation", "explain_now", "explain_occurrence"]

_WHY = {
    "overlap": "an earlier run was still open",
    "limit": "more were waiting, or had been missed, than the task keeps",
    "coalesced": "a later run stood for it",
    "misfire": "it was decided later than its grace allows, and the task skips those",
    "window": "it was older than the catch-up window when it was decided",
    "paused": "the task was paused",
    "disabled": "the task was not enabled",
    "edited": "the task was edited before it was decided",
    "skipped": "somebody asked to skip it",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """``verdict`` is one word or two for programs, ``reasons`` are sentences for people, the most telling first."""

    task_id: str
    verdict: str
    reasons: tuple[str, ...]


def explain_now(task_id: str, facts: Facts) -> Explanation:
    """Why the task runs now, or why not."""
    state = facts.state
    if state is None:
        return _explain_gone(task_id, facts)
    found = [*_running(facts), *_blocked(facts), *_coming(facts)]
    verdict = found[0][0] if found else "waiting"
    return Explanation(task_id, verdict, tuple(reason for _, reason in found))


def explain_occurrence(task_id: str, at_ms: int, facts: Facts) -> Explanation:
    """What became of the occurrence at an instant, or will."""
    for run in facts.runs:
        if run.nominal_ms == at_ms:
            return Explanation(task_id, "open", (_open_run(run),))
    if at_ms in facts.held_ms:
        return Explanation(
            task_id, "held", ("it waits until an open run of its task ends", *map(_open_run, facts.runs))
        )
    lines = [line for line in facts.history if _concerns(line, at_ms)]
    if lines:
        return Explanation(task_id, lines[0].what, tuple(_line(line) for line in lines))
    if facts.state is None:
        return Explanation(task_id, "unknown", ("there is no such task, and no record of that instant",))
    return _undecided(task_id, at_ms, facts)


def _undecided(task_id: str, at_ms: int, facts: Facts) -> Explanation:
    state = facts.state
    assert state is not None
    cursor_ms = state.plan.cursor_ms if state.plan else 0
    definition = state.stored.definition
    if not definition.start_ms <= at_ms < definition.end_ms:
        return Explanation(task_id, "window", ("it lies outside of the task's start and end",))
    if not _is_instant(definition, at_ms):
        return Explanation(task_id, "no occurrence", ("the schedule has no occurrence at that instant",))
    if at_ms > cursor_ms:
        now = explain_now(task_id, facts)
        when = "is due" if at_ms <= facts.now_ms else "is still to come"
        return Explanation(task_id, "undecided", (f"it {when} and was not decided yet", *now.reasons))
    return Explanation(task_id, "unknown", ("it was decided, longer ago than records are kept",))


def _is_instant(definition: Definition, at_ms: int) -> bool:
    try:
        planned = planning.plan(definition, at_ms - 1)
    except ScheduleError:
        return False
    return bool(planned.segments) and planned.segments[0].first_ms == at_ms


def _explain_gone(task_id: str, facts: Facts) -> Explanation:
    ended = [line for line in facts.history if line.kind == "ended"]
    if not ended:
        return Explanation(task_id, "unknown", ("there is no such task, and no record of one",))
    how = {
        "end": "its schedule came to its end",
        "iterations": "its iterations were used up",
        "deleted": "it was deleted",
    }
    said = f"the task is gone since {_at(ended[0].at_ms)}: {how.get(ended[0].what, ended[0].what)}"
    return Explanation(task_id, "ended", (said,))


def _running(facts: Facts) -> list[tuple[str, str]]:
    return [("running" if run.worker else "waiting", _open_run(run)) for run in facts.runs]


def _blocked(facts: Facts) -> list[tuple[str, str]]:
    state = facts.state
    assert state is not None
    d, found = state.stored.definition, list[tuple[str, str]]()
    if state.pause:
        until = "" if state.pause.until_ms is None else f" until {_at(state.pause.until_ms)}"
        by = f" by {state.pause.by}" if state.pause.by else ""
        reason = f": {state.pause.reason}" if state.pause.reason else ""
        found.append(("paused", f"it is paused{by} since {_at(state.pause.since_ms)}{until}{reason}"))
    if not d.enabled:
        found.append(("disabled", "it is not enabled"))
    window = facts.maintenance
    if window and window.from_ms <= facts.now_ms < window.until_ms:
        by = f" by {window.by}" if window.by else ""
        said = f"the namespace is in maintenance{by} until {_at(window.until_ms)}: {window.reason}"
        found.append(("maintenance", said.removesuffix(": ")))
    if facts.quarantine:
        found.append(("quarantine", f"something of it is in quarantine: {facts.quarantine}"))
    if state.unroutable:
        found.append(("unroutable", f"no worker that asked could call or plan it: {state.unroutable}"))
    if not any(worker.state == "up" and d.queue in worker.queues for worker in facts.workers):
        found.append(("no worker", f"no worker serves its queue {d.queue!r}"))
    if facts.runs and d.overlap is not Overlap.ALLOW and len(facts.runs) >= d.max_running:
        found.append(("overlap", f"it has as many open runs as it may ({d.max_running}); further ones: {d.overlap}"))
    return found


def _coming(facts: Facts) -> list[tuple[str, str]]:
    state = facts.state
    assert state is not None
    found = list[tuple[str, str]]()
    if facts.held_ms:
        found.append(("held", f"{len(facts.held_ms)} held-back occurrences wait for an open run to end"))
    if facts.skips:
        found.append(("skipped", f"its next {facts.skips} occurrences will be skipped"))
    if state.plan and not state.plan.plan.segments and not state.plan.plan.complete:
        found.append(("replanning", "its plan ran out; the next worker that asks plans anew"))
    elif state.next_ms is not None:
        found.append(
            ("due" if state.next_ms <= facts.now_ms else "waiting", f"its next run is due at {_at(state.next_ms)}")
        )
    return found


def _open_run(run: OpenRun) -> str:
    if run.worker is None:
        when = "" if run.at_ms is None else f", not before {_at(run.at_ms)}"
        return f"run {run.run_id} waits for its attempt {run.attempt}{when}"
    since = _at(run.token // 1000)
    progress = f", it says: {run.progress}" if run.progress else ""
    asked = ", and was asked to end" if run.is_cancelled else ""
    return f"run {run.run_id} is running on worker {run.worker} since {since}, attempt {run.attempt}{asked}{progress}"


def _concerns(line: HistoryEntry, at_ms: int) -> bool:
    first, last = line.nominal_ms, line.last_ms
    return first is not None and last is not None and first <= at_ms <= last


def _line(line: HistoryEntry) -> str:
    if line.kind == "skip":
        return (
            f"at {_at(line.at_ms)} it was decided that it does not run ({line.what}): {_WHY.get(line.what, line.what)}"
        )
    worker = f" on worker {line.worker}" if line.worker not in ("", "-") else ""
    error = f": {line.error.strip().splitlines()[-1]}" if line.error.strip() else ""
    return f"at {_at(line.at_ms)} attempt {line.attempt} of run {line.run_id} ended as {line.what}{worker}{error}"


def _at(ms: int) -> str:
    return clock.from_ms(ms).isoformat(timespec="seconds")
