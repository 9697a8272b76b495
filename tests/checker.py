"""Decides from a history whether the promises were kept. Pure, and timing decides nothing: only orders and sets are compared.

What counts against an attempt is its span up to its end, or until the server took it back, whichever is first. What a frozen
process does after that is late work: it is counted apart, and its settlement must have been refused.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from history import ENDINGS, TAKEN_BACK, Attempt, History, Line, TaskFacts, split_run

# The machine's wall clock may be slewed against its monotonic one while a history is made.
CLOCK_TOLERANCE_MS = 250
TASK_KEYS = (
    *("plan", "open", "remaining", "held", "last", "streak", "skips", "backfills", "paused", "unroutable"),
    *("labels", "due"),
)
RUN_KEYS = ("waiting", "waiting_queue", "live", "cancels", "progress")
OTHER_KEYS = frozenset(
    ("tasks", "meta", "workers", "leases", "quarantine", "history", "reports", "replies", "reply_times")
    + ("dead", "dead_times")
    + ("namespace", "wake")
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and by what."""

    promise: str
    what: str


@dataclass
class Verdict:
    """``counts``: what was seen, for the report."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Task:
    """One generation's part of the history."""

    facts: TaskFacts
    attempts: list[Attempt] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.facts.id}:{self.facts.generation}"

    def runs(self) -> set[str]:
        return {a.run_id for a in self.attempts} | {line.run_id for line in self.lines if line.run_id}

    def scheduled(self) -> set[int]:
        return {int(instant) for run in self.runs() if (instant := split_run(run)[2]).isdigit()}


def check(history: History) -> Verdict:
    """Every violation of a finished history, whose fleet has drained."""
    verdict = Verdict()
    tasks = {(facts.id, facts.generation): _Task(facts) for facts in history.tasks}
    known_tokens: dict[int, str] = {}
    for attempt in history.attempts:
        task = tasks.get(split_run(attempt.run_id)[:2])
        if task is None:
            verdict.violations.append(Violation("expected", f"run {attempt.run_id} is of no task that was saved"))
            continue
        task.attempts.append(attempt)
        if known_tokens.setdefault(attempt.token, attempt.run_id) != attempt.run_id:
            verdict.violations.append(
                Violation(
                    "tokens", f"{attempt.run_id} and {known_tokens[attempt.token]} have the token {attempt.token}"
                )
            )
    for line in history.lines:
        if (found := tasks.get((line.task_id, line.generation))) is not None:
            found.lines.append(line)
            verdict.counts[f"{line.kind} {line.what}"] += 1
        else:
            verdict.violations.append(Violation("expected", f"{line} is of no task that was saved"))
    for task in tasks.values():
        for rule in (_endings, _attempts, _tokens, _overlaps, _occurrences, _iterations, _triggers):
            verdict.violations += rule(task)
        verdict.violations += _early(task, history)
    verdict.violations += _leaks(history)
    verdict.counts["attempts"] = len(history.attempts)
    verdict.counts["runs"] = len({a.run_id for a in history.attempts})
    verdict.counts["late work"] = sum(len(_late(task)) for task in tasks.values())
    return verdict


def _by_run(task: _Task) -> dict[str, tuple[list[Attempt], list[Line]]]:
    found: dict[str, tuple[list[Attempt], list[Line]]] = {run: ([], []) for run in sorted(task.runs())}
    for attempt in task.attempts:
        found[attempt.run_id][0].append(attempt)
    for line in task.lines:
        if line.run_id:
            found[line.run_id][1].append(line)
    return found


def _endings(task: _Task) -> Iterator[Violation]:
    """Every run ended once, and nothing of it happened after."""
    for run, (attempts, lines) in _by_run(task).items():
        ends = [line for line in lines if line.what in ENDINGS]
        if len(ends) != 1:
            yield Violation("ended once", f"run {run} has {len(ends)} ends: {[line.what for line in lines]}")
            continue
        if lines[-1] is not ends[0]:
            yield Violation("ended once", f"run {run} went on after its end: {[line.what for line in lines]}")
        if ends[0].what != "cancelled" and any(a.number > ends[0].attempt for a in attempts):
            yield Violation("ended once", f"run {run} ended with attempt {ends[0].attempt}, yet a later one was made")
        retries = sum(line.what == "retry" for line in lines)
        if task.facts.attempts and ends[0].what == "failed" and retries != task.facts.attempts - 1:
            yield Violation("retries", f"run {run} failed after {retries} retries of {task.facts.attempts - 1}")
    if task.facts.has_ended and not any(line.kind == "ended" for line in task.lines):
        yield Violation("ended once", f"task {task.name} left without a record")
    if sum(line.kind == "ended" for line in task.lines) > 1:
        yield Violation("ended once", f"task {task.name} ended more than once")


def _attempts(task: _Task) -> Iterator[Violation]:
    """What is said to have gone well was done, by one call, and not by one that was taken back."""
    for run, (attempts, lines) in _by_run(task).items():
        for attempt, following in pairwise(sorted(attempts, key=lambda a: a.token)):
            if following.number <= attempt.number:
                yield Violation("once", f"attempt {following.number} of run {run} was begun more than once")
        done = {a.number for a in attempts if a.how == "done"}
        for line in lines:
            if line.what == "ok" and line.attempt not in done:
                yield Violation("ran", f"run {run} is ok by attempt {line.attempt}, which did not come to its end")
        taken = {line.attempt for line in lines if line.what == "redelivered"}
        accepted = {line.attempt for line in lines if line.what in ("ok", "failed", "retry", "timeout")}
        for number in taken & accepted & {a.number for a in attempts}:
            tokens = {a.token for a in attempts if a.number == number}
            # Where it never began it may be given again under its number; begun twice is found above.
            if len(tokens) == 1 and not _may_be_given_again(lines, number):
                yield Violation("late work", f"attempt {number} of run {run} was taken back, and then settled it")


def _may_be_given_again(lines: Sequence[Line], number: int) -> bool:
    """An attempt after a loss keeps its number when it is lost again before it began."""
    return any(line.what == "redelivered" and line.attempt < number for line in lines)


def _tokens(task: _Task) -> Iterator[Violation]:
    """Tokens rise: with every attempt of a run, and in a task without overlap from run to run."""
    for run, (attempts, _) in _by_run(task).items():
        ordered = sorted(attempts, key=lambda a: (a.number, a.token))
        for one, following in pairwise(ordered):
            if following.token <= one.token:
                yield Violation("tokens", f"attempt {following.number} of run {run} has no higher token than the last")
    if not task.facts.forbids_overlap:
        return
    firsts = sorted((a for a in task.attempts if split_run(a.run_id)[2].isdigit()), key=lambda a: a.nominal_ms)
    for one, following in pairwise(firsts):
        if one.run_id != following.run_id and following.token <= one.token:
            yield Violation("tokens", f"{following.run_id} has no higher token than {one.run_id}, which is before it")


def _fate(lines: Sequence[Line], attempt: Attempt) -> set[str]:
    return {line.what for line in lines if line.run_id == attempt.run_id and line.attempt == attempt.number}


def _was_given_up(task: _Task, attempt: Attempt, lines: Sequence[Line]) -> bool:
    """The server had ended or taken back the attempt, whatever its process did afterwards."""
    fate = _fate(lines, attempt)
    gave_up = TAKEN_BACK | ({"timeout", "retry"} if task.facts.has_timeout else set())
    return bool(fate & gave_up) or any(line.what == "cancelled" and line.run_id == attempt.run_id for line in lines)


def _rivals(task: _Task) -> Iterator[tuple[Attempt, Attempt]]:
    """Pairs whose spans must not meet: each attempt, and of all with newer tokens the one that began first."""
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in task.attempts:
        groups["" if task.facts.forbids_overlap else attempt.run_id].append(attempt)
    for group in groups.values():
        *olders, first = sorted(group, key=lambda a: a.token)
        for older in reversed(olders):
            yield older, first
            first = min(first, older, key=lambda a: a.start)


def _late(task: _Task) -> list[Attempt]:
    """Attempts that were given up and still did something after their successor had begun."""
    per_run = {run: lines for run, (_, lines) in _by_run(task).items()}
    return [
        older
        for older, newer in _rivals(task)
        if _was_given_up(task, older, per_run[older.run_id])
        and (older.start > newer.start or (older.end or 0.0) > newer.start)
    ]


def _overlaps(task: _Task) -> Iterator[Violation]:
    """No two spans meet, and where overlap is forbidden no run is admitted before the last one's end."""
    per_run = {run: lines for run, (_, lines) in _by_run(task).items()}
    for older, newer in _rivals(task):
        if _was_given_up(task, older, per_run[older.run_id]):
            continue
        if older.end is None or older.end > newer.start:
            yield Violation("overlap", f"{older} was still running, and nobody took it back, when {newer} began")
    if not task.facts.forbids_overlap:
        return
    ends = {line.run_id: line.position for line in task.lines if line.what in ENDINGS and line.run_id}
    begins: dict[str, int] = {}
    tokens: dict[str, list[int]] = defaultdict(list)
    for line in task.lines:
        if line.run_id:
            begins.setdefault(line.run_id, line.position)
    for attempt in task.attempts:
        tokens[attempt.run_id].append(attempt.token)
    ordered = sorted(tokens, key=lambda run: min(tokens[run]))
    for one, following in pairwise(ordered):
        if max(tokens[one]) > min(tokens[following]):
            yield Violation("overlap", f"run {one} was granted again after {following} had been admitted")
        if ends.get(one, 0) > begins.get(following, ends.get(one, 0)):
            yield Violation("overlap", f"run {following} was in the ledger before run {one} had ended")


def _allowed_and_required(facts: TaskFacts, until_ms: int) -> tuple[set[int], set[int]]:
    allowed: set[int] = set()
    required: set[int] = set()
    for epoch, following in zip(facts.epochs, [*facts.epochs[1:], None], strict=True):
        last_allowed = until_ms if following is None else min(until_ms, following.by_ms)
        last_required = until_ms if following is None else min(until_ms, following.from_ms)
        allowed.update(epoch.schedule.instants(epoch.from_ms - 1, last_allowed))
        required.update(epoch.schedule.instants(epoch.by_ms, last_required))
    return allowed, required


def _occurrences(task: _Task) -> Iterator[Violation]:
    """Every instant of the schedule was decided once: it is a run, or has its reason."""
    scheduled = task.scheduled()
    skips = [line for line in task.lines if line.kind == "skip"]
    highest = max([*scheduled, *(line.last_ms for line in skips), -1])
    allowed, required = _allowed_and_required(task.facts, max(highest, task.facts.decided_until_ms or 0))
    for nominal in sorted(scheduled - allowed):
        yield Violation("expected", f"task {task.name} ran for {nominal}, which is no instant of its schedule")
    decided = Counter(scheduled)
    for line in skips:
        covered = [instant for instant in _between(allowed, line)]
        least = sum(instant in required for instant in covered)
        if line.count and not least <= line.count <= len(covered):
            yield Violation("lost", f"{line} tells of {line.count} occurrences, the schedule has {least}")
        decided.update(covered)
    limit = task.facts.decided_until_ms
    wanted = required if limit is not None else {instant for instant in required if instant <= highest}
    if task.facts.iterations and task.facts.has_ended:
        wanted = {instant for instant in required if instant <= highest}
    for instant in sorted(wanted - decided.keys()):
        yield Violation("lost", f"task {task.name} has no record of its occurrence at {instant}")
    for instant, times in sorted(decided.items()):
        if times > 1:
            yield Violation("twice", f"the occurrence of task {task.name} at {instant} was decided {times} times")


def _between(instants: set[int], line: Line) -> Iterator[int]:
    return (instant for instant in instants if line.first_ms <= instant <= line.last_ms)


def _iterations(task: _Task) -> Iterator[Violation]:
    """N iterations are N runs; fewer only where the task was deleted before."""
    wanted, made = task.facts.iterations, len(task.scheduled())
    if wanted and (made > wanted or (task.facts.has_ended and not task.facts.is_deleted and made < wanted)):
        yield Violation("iterations", f"task {task.name} made {made} runs of {wanted}")


def _triggers(task: _Task) -> Iterator[Violation]:
    """Each trigger made one run."""
    least, most = task.facts.triggers
    made = len(task.runs()) - len(task.scheduled())
    if made > most or (made < least and not task.facts.is_deleted):
        yield Violation(
            "twice" if made > most else "lost", f"task {task.name}: {made} triggered runs, not {least}–{most}"
        )


def _early(task: _Task, history: History) -> Iterator[Violation]:
    """Nothing began before the server's clock had reached its instant: by the token, and by the clock itself."""
    for a in task.attempts:
        if a.token // 1000 < a.nominal_ms:
            yield Violation("early", f"run {a.run_id} was granted {a.nominal_ms - a.token // 1000} ms before its time")
        elif history.clock and history.clock.latest(a.start) + CLOCK_TOLERANCE_MS < a.nominal_ms:
            yield Violation("early", f"run {a.run_id} began before the server's clock showed its time")


def _leaks(history: History) -> Iterator[Violation]:
    """At the end nothing is left of ended tasks, and no run is open."""
    alive = history.dump.get("tasks", frozenset())
    for kind, members in history.dump.items():
        if kind in TASK_KEYS:
            for member in sorted(members - alive):
                yield Violation("leak", f"{kind} still holds {member}, a task that has ended")
        elif kind in RUN_KEYS:
            for member in sorted(members):
                yield Violation("leak", f"{kind} still holds {member} of a fleet that has drained")
        elif kind == "quarantine":
            for member in sorted(members):
                yield Violation("leak", f"{member} is in quarantine")
        elif kind not in OTHER_KEYS:
            yield Violation("leak", f"nobody knows the key {kind}")
    for facts in history.tasks:
        if facts.has_ended and facts.id in alive and not _has_successor(history, facts):
            yield Violation("leak", f"task {facts.id} has ended and is still there")


def _has_successor(history: History, facts: TaskFacts) -> bool:
    return any(f.id == facts.id and int(f.generation) > int(facts.generation) for f in history.tasks)
