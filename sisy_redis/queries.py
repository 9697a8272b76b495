"""Reads: what is stored, as values. Nothing here changes anything."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sisy_redis import calls, codec
from sisy_redis.calls import PlanState, read, text
from sisy_redis.definitions import Outcome, Stored
from sisy_redis.keys import Partition, Space
from sisy_redis.signing import Signer
from sisy_redis.transport import Steps

log = logging.getLogger(__name__)

_STATE_COLUMNS = ("tasks", "plan", "open", "remaining", "last", "paused", "unroutable")


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the latest finished run ended. ``started_ms`` is the worker's wall clock, for display."""

    outcome: str
    nominal_ms: int
    started_ms: int
    duration_ms: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a task, when (server's ms) and why; ``until_ms``: when it goes on by itself, None for never."""

    since_ms: int
    by: str
    reason: str
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task and everything known about it now."""

    stored: Stored
    plan: PlanState | None
    next_ms: int | None
    open_runs: int
    iterations_left: int | None
    last: LastRun | None
    pause: Pause | None
    unroutable: str | None

    @property
    def is_held(self) -> bool:
        """Paused or not enabled."""
        return self.pause is not None or not self.stored.definition.enabled


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of the ledger.

    ``kind``: run (an attempt ended: ``what`` is its outcome, or retry, redelivered, unroutable), skip (``what`` is the reason,
    ``count`` occurrences from ``nominal_ms`` to ``last_ms``; 0 is unknown), backfill (one has ended; ``what`` says how far it
    came) or ended (the task left; ``what`` says how).
    """

    kind: str
    task_id: str
    what: str
    at_ms: int
    run_id: str | None = None
    attempt: int = 0
    nominal_ms: int | None = None
    last_ms: int | None = None
    count: int = 1
    started_ms: int = 0
    duration_ms: int = 0
    worker: str = ""
    error: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A registered worker of one partition."""

    partition: int
    boot: str
    state: str
    name: str
    queues: tuple[str, ...]
    registered_ms: int
    lease_until_ms: int
    holds: int


def load_records(space: Space, ids: Sequence[str]) -> Steps[tuple[int, dict[str, Stored]]]:
    """The server's time and the tasks that exist among ``ids``."""
    by_partition = grouped(space, ids)
    batch: list[calls.Call[Any]] = [calls.server_time(space)]
    for p, group in by_partition:
        batch.append(read(plain, "HMGET", p.key("tasks"), *group))
    now_ms, *rows = yield batch
    found = {}
    for (_, group), records in zip(by_partition, rows, strict=True):
        for task_id, record in zip(group, records, strict=True):
            if record is not None:
                found[task_id] = codec.decode(task_id, record, space.signer)
    return now_ms, found


def load_plans(space: Space, tasks: Sequence[Stored]) -> Steps[dict[str, PlanState]]:
    """The plans of stored tasks; those that cannot be read are left out."""
    batch = [read(plain, "HGET", space.partition_of(s.definition.id).key("plan"), s.definition.id) for s in tasks]
    rows = yield batch
    found = {}
    for stored, column in zip(tasks, rows, strict=True):
        state = calls.readable_plan_state(stored, column)
        if state is not None:
            found[stored.definition.id] = state
    return found


def load_states(space: Space, ids: Sequence[str]) -> Steps[list[TaskState]]:
    """Everything about the tasks that exist among ``ids``, in that order."""
    by_partition = grouped(space, ids)
    batch = [read(plain, "HMGET", p.key(c), *group) for p, group in by_partition for c in _STATE_COLUMNS]
    if not batch:
        return []
    rows = yield batch
    states: dict[str, TaskState] = {}
    for i, (_, group) in enumerate(by_partition):
        columns = rows[i * len(_STATE_COLUMNS) : (i + 1) * len(_STATE_COLUMNS)]
        for j, task_id in enumerate(group):
            values = [column[j] for column in columns]
            if values[0] is None:
                continue
            try:
                states[task_id] = _state(task_id, values, space.signer)
            except codec.CorruptRecord as error:
                # One record that cannot be read must not hide the others.
                log.warning("%s", error)
    scores = yield [
        read(score, "ZSCORE", space.partition_of(i).due(s.stored.definition.queue), i) for i, s in states.items()
    ] or [calls.server_time(space)]
    # Where the schedule is held, the score only says when the task ends.
    placed = {
        task_id: TaskState(s.stored, s.plan, None if s.is_held else score, *_rest(s))
        for (task_id, s), score in zip(states.items(), scores[: len(states)], strict=True)
    }
    return [placed[task_id] for task_id in ids if task_id in placed]


def ids_with_label(space: Space, label: str, limit: int = 1000) -> Steps[list[str]]:
    """The ids of the tasks with this label."""
    low, high = f"[{label}\0", f"[{label}\1"
    batch = [
        read(plain, "ZRANGE", p.key("labels"), low, high, "BYLEX", "LIMIT", 0, limit) for p in space.all_partitions()
    ]
    rows = yield batch
    return [text(member).rpartition("\0")[2] for row in rows for member in row]


def page_by_label(
    p: Partition, after: str | None, label: str | None = None, count: int = 200
) -> Steps[tuple[str | None, list[str]]]:
    """A page of a partition's task ids in the order of their labels, of one label or of all, and where the next begins.

    Give that as ``after``; None starts and ends. A task that exists all the while is met exactly once.
    """
    low = f"({after}" if after is not None else "-" if label is None else f"[{label}\0"
    high = "+" if label is None else f"[{label}\1"
    (rows,) = yield [read(plain, "ZRANGE", p.key("labels"), low, high, "BYLEX", "LIMIT", 0, count)]
    members = [text(member) for member in rows]
    return members[-1] if len(members) == count else None, [member.rpartition("\0")[2] for member in members]


def page_of_waiting(p: Partition, queue: str, cursor: int, count: int = 500) -> Steps[tuple[int, list[str]]]:
    """A page of the runs that wait in a queue, and the cursor of the next page; 0 starts and ends."""
    ((following, rows),) = yield [read(plain, "ZSCAN", p.waiting_queue(queue), cursor, "COUNT", count)]
    return int(following), [text(member) for member, _ in pairs(rows)]


def history(space: Space, task_id: str | None = None, n: int = 20) -> Steps[list[HistoryEntry]]:
    """The newest ``n`` ledger lines, of one task or of all, newest first."""
    partitions = [space.partition_of(task_id)] if task_id else space.all_partitions()
    entries: list[HistoryEntry] = []
    for p in partitions:
        found = yield from _partition_history(p, task_id, n)
        reports = yield from _reports(p, {e.run_id for e in found if e.kind == "run"})
        for entry in found:
            error, result = reports.get((entry.run_id or "", entry.attempt), ("", ""))
            entries.append(replace(entry, error=error, result=result))
    return sorted(entries, key=lambda entry: entry.at_ms, reverse=True)[:n]


def _reports(p: Partition, runs: set[str | None]) -> Steps[dict[tuple[str, int], tuple[str, str]]]:
    """What the attempts of some runs reported: error and result. Reads back as far as reports are kept."""
    found: dict[tuple[str, int], tuple[str, str]] = {}
    upper = "+"
    while runs:
        (rows,) = yield [read(plain, "XREVRANGE", p.key("reports"), upper, "-", "COUNT", 200)]
        for _, fields in rows:
            f = {text(k): text(v) for k, v in pairs(fields)}
            if f["run"] in runs:
                found.setdefault((f["run"], int(f["attempt"])), (f["error"], f["result"]))
        if len(rows) < 200:
            break
        upper = "(" + text(rows[-1][0])
    return found


def _partition_history(p: Partition, task_id: str | None, n: int) -> Steps[list[HistoryEntry]]:
    entries: list[HistoryEntry] = []
    upper = "+"
    while len(entries) < n:
        (rows,) = yield [read(plain, "XREVRANGE", p.key("history"), upper, "-", "COUNT", 100)]
        for entry_id, fields in rows:
            at_ms = int(text(entry_id).partition("-")[0])
            for _, lines in pairs(fields):
                for line in reversed(text(lines).split("\n")):
                    entry = _history_entry(line, at_ms)
                    if task_id in (None, entry.task_id):
                        entries.append(entry)
        if len(rows) < 100:
            break
        upper = "(" + text(rows[-1][0])
    return entries[:n]


def _history_entry(line: str, at_ms: int) -> HistoryEntry:
    kind, *rest = line.split("\t")
    if kind == "backfill":
        task_id, _generation, name, ended, failed, total = rest
        return HistoryEntry(
            kind, task_id, f"{name}: {ended} of {total} ran, {failed} not well", at_ms, count=int(ended)
        )
    if kind == "run":
        run_id, what, attempt, nominal, started, duration, worker, _queue = rest
        return HistoryEntry(
            kind,
            run_id.rsplit(":", 2)[0],
            what,
            at_ms,
            run_id,
            int(attempt),
            int(nominal),
            int(nominal),
            1,
            int(started),
            int(duration),
            worker,
        )
    if kind == "skip":
        task_id, _generation, reason, count, first, last = rest
        return HistoryEntry(kind, task_id, reason, at_ms, None, 0, int(first), int(last), int(count))
    return HistoryEntry(kind, rest[0], rest[2], at_ms)


def workers(space: Space) -> Steps[list[WorkerState]]:
    """Every registered worker, by partition."""
    found: list[WorkerState] = []
    for p in space.all_partitions():
        records, leases = yield [
            read(plain, "HGETALL", p.key("workers")),
            read(plain, "ZRANGE", p.key("leases"), 0, -1, "WITHSCORES"),
        ]
        until = {text(boot): int(float(score)) for boot, score in pairs(leases)}
        for boot, record in pairs(records):
            state, _lease, _seq, registered, queues, name = text(record).split(" ")
            (holds,) = yield [read(int, "HLEN", p.live(text(boot)))]
            lease_until = until.get(text(boot), 0)
            row = (state, name, tuple(queues.split(",")), int(registered), lease_until, holds)
            found.append(WorkerState(p.index, text(boot), *row))
    return found


def grouped(space: Space, ids: Sequence[str], task_of: Callable[[str], str] = str) -> list[tuple[Partition, list[str]]]:
    """Ids by the partition of their task."""
    groups: dict[int, list[str]] = {}
    for one in dict.fromkeys(ids):
        groups.setdefault(space.partition_of(task_of(one)).index, []).append(one)
    return [(space.partition(index), group) for index, group in groups.items()]


def _state(task_id: str, values: Sequence[bytes | None], signer: Signer | None) -> TaskState:
    record, plan, open_runs, remaining, last, paused, unroutable = values
    stored = codec.decode(task_id, record or b"", signer)
    return TaskState(
        stored,
        calls.readable_plan_state(stored, plan),
        None,
        int(open_runs.split(b" ")[0]) if open_runs else 0,
        int(remaining) if remaining is not None else None,
        _last_run(text(last)) if last else None,
        _pause(text(paused)) if paused else None,
        text(unroutable).split("\t", 4)[4] if unroutable else None,
    )


def _rest(s: TaskState) -> tuple[int, int | None, LastRun | None, Pause | None, str | None]:
    return s.open_runs, s.iterations_left, s.last, s.pause, s.unroutable


def _last_run(column: str) -> LastRun:
    outcome, nominal, started, duration, attempt = column.split(" ")
    return LastRun(Outcome(outcome), int(nominal), int(started), int(duration), int(attempt))


def _pause(column: str) -> Pause:
    since, until, by, reason = column.split("\t", 3)
    return Pause(int(since), by, reason, None if until == "-" else int(until))


def score(reply: Any) -> int | None:
    """A score in ms; None for none, or for +inf."""
    if reply is None:
        return None
    found = float(reply)
    return None if found == float("inf") else int(found)


def plain(reply: Any) -> Any:
    """A reply as it came."""
    return reply


def pairs(reply: Any) -> list[tuple[Any, Any]]:
    """The pairs of a hash, a stream's fields or a scored range, whatever the protocol made of them."""
    if isinstance(reply, dict):
        return list(reply.items())
    if reply and isinstance(reply[0], list | tuple):
        return [(row[0], row[1]) for row in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))
