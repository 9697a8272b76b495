"""Reads that look closer: open and dead runs, and everything that says why a task runs or does not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sisy_redis import calls
from sisy_redis.calls import read, text
from sisy_redis.keys import Partition, Space, task_id_of
from sisy_redis.queries import (
    HistoryEntry,
    TaskState,
    WorkerState,
    history,
    load_states,
    pairs,
    plain,
    score,
    workers,
)
from sisy_redis.transport import Steps


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A run nobody will try again: lost, or failed with no retry left. ``record`` is its task's as it was then."""

    run_id: str
    task_id: str
    since_ms: int
    outcome: str
    attempt: int
    nominal_ms: int
    record: bytes = field(repr=False)


def dead_runs(space: Space, task_id: str | None = None, n: int = 100) -> Steps[list[DeadRun]]:
    """The newest ``n`` dead runs, of a task or of all."""
    partitions = [space.partition_of(task_id)] if task_id else space.all_partitions()
    found: list[DeadRun] = []
    for p in partitions:
        (ids,) = yield [read(plain, "ZREVRANGE", p.key("dead_times"), 0, -1)]
        wanted = [run for run in map(text, ids) if task_id in (None, task_id_of(run))][:n]
        if wanted:
            (rows,) = yield [read(plain, "HMGET", p.key("dead"), *wanted)]
            found += [_dead_run(run, row) for run, row in zip(wanted, rows, strict=True) if row is not None]
    return sorted(found, key=lambda run: run.since_ms, reverse=True)[:n]


def dead_run(p: Partition, run_id: str) -> Steps[DeadRun | None]:
    """One dead run."""
    (row,) = yield [read(plain, "HGET", p.key("dead"), run_id)]
    return None if row is None else _dead_run(run_id, row)


def _dead_run(run_id: str, row: bytes) -> DeadRun:
    line, _, record = row.partition(b"\n")
    since, outcome, number, nominal, *_ = text(line).split(" ")
    return DeadRun(run_id, task_id_of(run_id), int(since), outcome, int(number), int(nominal), record)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run from its admission to its end.

    ``worker`` holds it; None while it waits, until ``at_ms`` at least. ``progress`` is what it last said of itself.
    """

    run_id: str
    attempt: int
    nominal_ms: int
    worker: str | None = None
    token: int = 0
    at_ms: int | None = None
    progress: str = ""
    is_cancelled: bool = False


def open_runs(space: Space, task_id: str) -> Steps[list[OpenRun]]:
    """The open runs of a task, oldest first; at most the hundred that are known by name."""
    p = space.partition_of(task_id)
    column, plan = yield [read(plain, "HGET", p.key(kind), task_id) for kind in ("open", "plan")]
    if not column or not plan:
        return []
    generation = text(plan).split(" ")[0]
    marks = [mark for mark in text(column).partition(" ")[2].split(",") if mark]
    ids = [f"{task_id}:{generation}:{mark}" for mark in marks]
    if not ids:
        return []
    waiting, progress, cancels = yield [
        read(plain, "HMGET", p.key(kind), *ids) for kind in ("waiting", "progress", "cancels")
    ]
    live = yield from _live(p, [run for run, row in zip(ids, waiting, strict=True) if row is None])
    found = []
    for run, row, said, cancel in zip(ids, waiting, progress, cancels, strict=True):
        said, is_asked = text(said).partition("\t")[2] if said else "", cancel is not None
        if row is not None:
            number, _, nominal, _, queue = text(row).split(" ")
            (at_ms,) = yield [read(score, "ZSCORE", p.waiting_queue(queue), run)]
            found.append(OpenRun(run, int(number), int(nominal), None, 0, at_ms, said, is_asked))
        elif run in live:
            token, attempt, nominal_ms, worker = live[run]
            found.append(OpenRun(run, attempt, nominal_ms, worker, token, None, said, is_asked))
    return found


def _live(p: Partition, runs: Sequence[str]) -> Steps[dict[str, tuple[int, int, int, str]]]:
    """Token, attempt, nominal instant and worker of runs that somebody holds. Asks every worker, a hundred at a time."""
    found: dict[str, tuple[int, int, int, str]] = {}
    if not runs:
        return found
    (records,) = yield [read(plain, "HGETALL", p.key("workers"))]
    names = {text(boot): text(record).rpartition(" ")[2] for boot, record in pairs(records)}
    boots = list(names)
    for start in range(0, len(boots), 100):
        some = boots[start : start + 100]
        rows = yield [read(plain, "HMGET", p.live(boot), *runs) for boot in some]
        for boot, values in zip(some, rows, strict=True):
            for run, row in zip(runs, values, strict=True):
                if row is not None:
                    token, number, _, _, _, nominal, *_ = text(row).split(" ")
                    found[run] = int(token), int(number), int(nominal), names[boot]
    return found


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A window in which nothing is admitted."""

    from_ms: int
    until_ms: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What says why a task runs or not, at the server's ``now_ms``. ``state`` is None when it is gone."""

    now_ms: int
    state: TaskState | None
    runs: tuple[OpenRun, ...]
    held_ms: tuple[int, ...]
    skips: int
    quarantine: str | None
    maintenance: Maintenance | None
    workers: tuple[WorkerState, ...]
    history: tuple[HistoryEntry, ...]


def gather(space: Space, task_id: str) -> Steps[Facts]:
    """Everything that ``explain`` looks at."""
    p = space.partition_of(task_id)
    states = yield from load_states(space, [task_id])
    now_ms, held, skips, quarantine, window = yield [
        calls.server_time(space),
        *(read(plain, "HGET", p.key(kind), task_id) for kind in ("held", "skips", "quarantine")),
        read(plain, "HGET", p.key("meta"), "maintenance"),
    ]
    runs = yield from open_runs(space, task_id)
    registered = yield from workers(space)
    lines = yield from history(space, task_id, 1000)
    return Facts(
        now_ms,
        states[0] if states else None,
        tuple(runs),
        tuple(int(nominal) for nominal in text(held).split(",")) if held else (),
        int(skips or 0),
        text(quarantine) if quarantine else None,
        _maintenance(text(window)) if window else None,
        tuple(worker for worker in registered if worker.partition == p.index),
        tuple(lines),
    )


def _maintenance(column: str) -> Maintenance:
    begin, end, by, reason = column.split("\t", 3)
    return Maintenance(int(begin), int(end), by, reason)
