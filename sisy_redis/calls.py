"""One function per script: which keys, which arguments, what the reply means. Pure; the transport sends them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sisy_redis import codec, planning
from sisy_redis.definitions import Attempt, Definition, Dropped, Plan, Stored
from sisy_redis.keys import TASK_FACTS, Partition, Space, task_id_of
from sisy_redis.scripts import Script, script
from sisy_redis.signing import Signer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One command to send, complete, and how to read its answer. ``script`` is None for a plain read."""

    script: Script | None
    keys: tuple[str, ...]
    args: tuple[Any, ...]
    decode: Callable[[Any], T]


def _call(
    name: str,
    decode: Callable[[Any], T],
    partition: Partition,
    args: dict[str, Any],
    *,
    keys: dict[str, str] | None = None,
    key_rest: Sequence[str] = (),
    arg_rest: Sequence[Any] = (),
) -> Call[T]:
    found = script(name)
    given = keys or {}
    named_keys = {kind: given.get(kind) or partition.key(kind) for kind in found.keys.names}
    if "now_ms" in found.args.names:
        args["now_ms"] = partition.now_arg
    ordered = found.keys.order(named_keys, key_rest)
    return Call(found, tuple(map(str, ordered)), tuple(found.args.order(args, arg_rest)), decode)


def read(decode: Callable[[Any], T], command: str, *args: Any) -> Call[T]:
    """A plain read command."""
    return Call(None, (), (command, *args), decode)


def text(value: Any) -> str:
    """A reply as text, whatever the protocol made of it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _status(reply: Any) -> str:
    return text(reply[0])


# --- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to ``register``: a boot id, or None where the operation id was too old."""

    boot: str | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A worker whose lease ran out. ``queues`` are those its runs may have to wait in, joined by commas."""

    boot: str
    queues: str
    name: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """The answer to ``reap``: reaped, alive or gone; how many attempts were taken and are left.

    ``missing``: queues that must be among the given ones, because tasks were moved there.
    """

    status: str
    taken: int = 0
    left: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to ``renew``. ``is_refused`` ends the boot; ``cancels`` are runs of it that are to end."""

    is_refused: bool
    expired: tuple[Expired, ...] = ()
    cancels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to ``claim``. ``status`` is ok, refused or out-of-turn."""

    status: str
    now_ms: int
    next_due_ms: int | None = None
    has_backlog: bool = False
    watch: int = 0
    attempts: tuple[Attempt, ...] = ()
    unreadable: tuple[tuple[str, int, str], ...] = ()
    replans: tuple["PlanState", ...] = ()
    lows: tuple["PlanState", ...] = ()
    unplannable: tuple["Unplannable", ...] = ()
    cancels: tuple[str, ...] = ()
    untrusted: tuple["Untrusted", ...] = ()


@dataclass(frozen=True, slots=True)
class PlanState:
    """A task's stored plan: what is planned, how far it has been decided, and what was admitted last."""

    stored: Stored
    version: int
    cursor_ms: int
    admitted_ms: int | None
    plan: Plan
    column: bytes = b""


@dataclass(frozen=True, slots=True)
class Unplannable:
    """A task whose record or plan this release cannot read; ``column`` is its plan's."""

    task_id: str
    column: bytes
    queue: str
    reason: str
    path: str = "-"


@dataclass(frozen=True, slots=True)
class Untrusted:
    """An attempt whose record is not signed as it must be. ``mark``: given to ``claim``, it keeps this very record away."""

    run_id: str
    token: int
    queue: str
    reason: str
    mark: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one attempt ends. ``action`` is an Outcome, or retry, release, unroutable.

    ``text`` is its error, ``result`` what it returned as JSON; ``is_dead``: it is kept among the dead runs.
    """

    run_id: str
    token: int
    action: str
    queue: str
    delay_ms: int = 0
    started_ms: int = 0
    duration_ms: int = 0
    text: str = ""
    result: str = ""
    is_dead: bool = False


def register(p: Partition, op: str, lease_ms: int, queues: Sequence[str], name: str) -> Call[Registered]:
    """A boot id and the first lease."""

    def decode(reply: Any) -> Registered:
        ok = _status(reply) == "ok"
        return Registered(text(reply[1]) if ok else None, int(reply[-1]))

    return _call("register", decode, p, {"op": op, "lease_ms": lease_ms, "queues": ",".join(queues), "name": name})


def renew(p: Partition, boot: str) -> Call[Renewed]:
    """Another lease, and whose ran out."""

    def decode(reply: Any) -> Renewed:
        if _status(reply) != "ok":
            return Renewed(True)
        expired = tuple(Expired(*map(text, row)) for row in reply[3:])
        return Renewed(False, expired, tuple(text(run) for run in reply[2]))

    return _call("renew", decode, p, {"boot": boot}, keys={"live": p.live(boot)})


def live_runs(p: Partition, boot: str) -> Call[dict[str, int]]:
    """What the server says a worker holds: run ids and their tokens."""

    def decode(reply: Any) -> dict[str, int]:
        rows = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {text(run): int(text(fields).partition(" ")[0]) for run, fields in rows}

    return read(decode, "HGETALL", p.live(boot))


def leave(p: Partition, boot: str) -> Call[str]:
    """Gives up a boot."""
    return _call("leave", _status, p, {"boot": boot}, keys={"live": p.live(boot)})


def reap(p: Partition, expired: Expired) -> Call[Reaped]:
    """Takes back a batch of a dead worker's attempts."""
    queues = [name for name in expired.queues.split(",") if name]

    def decode(reply: Any) -> Reaped:
        status = _status(reply)
        if status != "reaped":
            return Reaped(status)
        return Reaped(status, int(reply[2]), int(reply[3]), tuple(text(queue) for queue in reply[4:]))

    return _call(
        "reap",
        decode,
        p,
        {"boot": expired.boot, "queues": expired.queues},
        keys={"live": p.live(expired.boot)},
        key_rest=_queue_keys(p, queues),
    )


def _queue_keys(p: Partition, queues: Sequence[str]) -> list[str]:
    return [key for queue in queues for key in (p.due(queue), p.waiting_queue(queue))]


def claim(
    p: Partition, boot: str, seq: int, slots: int, queues: Sequence[str], refused_paths: Sequence[str] = ()
) -> Call[Claimed]:
    """Decides what is due and takes at most ``slots`` attempts. ``refused_paths``: also the marks of untrusted records."""

    def decode(reply: Any) -> Claimed:
        status, now_ms = _status(reply), int(reply[1])
        if status != "ok":
            return Claimed(status, now_ms)
        attempts, unreadable, untrusted = _decode_attempts(reply[5], p.signer)
        replans, lost = _decode_plan_states(reply[6], p.signer)
        lows, _ = _decode_plan_states(reply[7], p.signer)
        return Claimed(
            status,
            now_ms,
            None if int(reply[2]) < 0 else int(reply[2]),
            int(reply[3]) == 1,
            int(reply[4]),
            attempts,
            unreadable,
            replans,
            lows,
            lost,
            tuple(text(run) for run in reply[8]),
            untrusted,
        )

    return _call(
        "claim",
        decode,
        p,
        {"boot": boot, "seq": seq, "slots": slots, "queues": ",".join(queues), "channel": p.cancel_channel},
        keys={"live": p.live(boot)},
        key_rest=_queue_keys(p, queues),
        arg_rest=refused_paths,
    )


def _decode_attempts(
    rows: Any, signer: Signer | None
) -> tuple[tuple[Attempt, ...], tuple[tuple[str, int, str], ...], tuple[Untrusted, ...]]:
    attempts, unreadable, untrusted = [], [], []
    for run, token, number, losses, nominal, previous, queue, record in rows:
        run_id = text(run)
        try:
            stored = codec.decode(task_id_of(run_id), record, signer)
        except codec.CorruptRecord:
            unreadable.append((run_id, int(token), text(queue)))
            continue
        distrust = codec.distrust(stored)
        if distrust:
            mark = f"{stored.definition.id} {hashlib.sha1(record, usedforsecurity=False).hexdigest()}"
            untrusted.append(Untrusted(run_id, int(token), text(queue), f"its record {distrust}", mark))
            continue
        before = text(previous)
        attempts.append(
            Attempt(
                run_id=run_id,
                token=int(token),
                number=int(number),
                losses=int(losses),
                nominal_ms=int(nominal),
                previous_ms=None if before == "-" else int(before),
                stored=stored,
                queue=text(queue),
            )
        )
    return tuple(attempts), tuple(unreadable), tuple(untrusted)


def _decode_plan_states(rows: Any, signer: Signer | None) -> tuple[tuple[PlanState, ...], tuple[Unplannable, ...]]:
    states, lost = [], []
    for task_id, plan, record, queue in rows:
        try:
            stored = codec.decode(text(task_id), record, signer)
            distrust = codec.distrust(stored)
            if distrust:
                lost.append(Unplannable(text(task_id), plan, text(queue), f"its record {distrust}"))
                continue
            states.append(plan_state(stored, plan))
        except (codec.CorruptRecord, ValueError) as error:
            lost.append(Unplannable(text(task_id), plan, text(queue), str(error)))
    return tuple(states), tuple(lost)


def plan_state(stored: Stored, column: bytes) -> PlanState:
    """A task's ``plan`` column."""
    _generation, version, cursor, admitted, *rest = text(column).split(" ")
    last = None if admitted == "-" else int(cursor if admitted == "=" else admitted)
    return PlanState(stored, int(version), int(cursor), last, planning.decode(rest[0] if rest else ""), column)


def readable_plan_state(stored: Stored, column: bytes | None) -> PlanState | None:
    """The same, None where there is none or it cannot be read."""
    try:
        return plan_state(stored, column) if column else None
    except ValueError:
        return None


def start(p: Partition, boot: str, run_id: str, token: int) -> Call[bool]:
    """Marks a redelivered attempt as started; False when its token is stale."""
    return _call(
        "start", lambda r: _status(r) == "started", p, {"run": run_id, "token": token}, keys={"live": p.live(boot)}
    )


def settle(p: Partition, boot: str, worker: str, settlements: Sequence[Settlement]) -> Call[list[str]]:
    """Ends attempts: settled, stale, or "elsewhere <queue>": the run has to wait in that queue, so settle it with that."""
    flat: list[Any] = []
    queues = list(dict.fromkeys(s.queue for s in settlements))
    for s in settlements:
        flat += [s.run_id, s.token, s.action, s.delay_ms, s.started_ms, s.duration_ms, s.text, s.result]
        flat.append(int(s.is_dead))
    return _call(
        "settle",
        lambda reply: [text(row) for row in reply[2:]],
        p,
        {"worker": worker, "queues": ",".join(queues)},
        keys={"live": p.live(boot)},
        key_rest=_queue_keys(p, queues),
        arg_rest=flat,
    )


def extend(p: Partition, extensions: Sequence[tuple[PlanState, int, Plan]]) -> Call[list[str]]:
    """Appends plans behind the planned end (ms) they were computed from."""
    flat: list[Any] = []
    for state, plan_end, plan in extensions:
        flat += [state.stored.definition.id, state.stored.generation, state.version, plan_end, planning.encode(plan)]
    return _call("extend", lambda reply: [text(row) for row in reply], p, {}, arg_rest=flat)


def replan(p: Partition, state: PlanState, dropped: Sequence[Dropped], plan: Plan) -> Call[str]:
    """The next plan of a task that ran out of it, and the ranges that become no runs."""
    flat: list[Any] = []
    for row in dropped:
        flat += [str(row.reason), row.count or 0, row.first_ms, row.last_ms]
    definition = state.stored.definition
    return _call(
        "replan",
        _status,
        p,
        {
            "id": definition.id,
            "generation": state.stored.generation,
            "version": state.version,
            "cursor": state.cursor_ms,
            "segments": planning.encode(plan),
        },
        keys={"due": p.due(definition.queue)},
        arg_rest=flat,
    )


def note_progress(p: Partition, boot: str, run_id: str, token: int, text: str) -> Call[bool]:
    """How far a live run has come; False when its token is stale."""
    args = {"run": run_id, "token": token, "text": text}
    return _call("progress", lambda reply: _status(reply) == "noted", p, args, keys={"live": p.live(boot)})


def postpone(p: Partition, op: str, what: Unplannable) -> Call[str]:
    """postponed, moved or expired."""
    args = {"op": op, "id": what.task_id, "column": what.column, "path": what.path, "reason": what.reason}
    return _call("postpone", _status, p, args, keys={"due": p.due(what.queue)})


# --- producers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One task to store. ``base`` is what was loaded (None creates); ``plan`` None keeps the stored one.

    ``is_spare``: the plan counts only where the stored one is exhausted. ``beside``: an instant beside the schedule, "" for
    none, "now" or ms; with a leading "?" only in the place of one that is undecided, which "keep" keeps.
    """

    op: str
    definition: Definition
    base: Stored | None
    plan: Plan | None
    planned_from_ms: int
    is_spare: bool = False
    beside: str = ""
    run_id: str = ""
    token: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """saved, exists, gone, conflict, stale, expired or replan."""

    status: str
    generation: int = 0
    version: int = 0
    is_head: bool = False


def save(p: Partition, saves: Sequence[Save], boot: str = "0") -> Call[list[Saved]]:
    """Creates or changes tasks of one partition."""
    flat: list[Any] = []
    queues: list[str] = []
    for s in saves:
        d, encoded = s.definition, codec.encode(s.definition, p.signer)
        base = s.base.definition if s.base else None
        iterations = str(d.iterations) if base is None else ""
        if base is not None and base.iterations != d.iterations:
            iterations = f"{base.iterations}:{d.iterations}"
        flat += [s.op, d.id, s.base.generation if s.base else "", s.base.version if s.base else ""]
        flat += [d.queue, encoded.policy, d.callable.path, d.label, encoded.body]
        flat += [planning.encode(s.plan) if s.plan else "", s.planned_from_ms]
        flat += [0 if s.plan is None else 2 if s.is_spare else 1, s.beside, iterations, s.run_id, s.token]
        queues += [p.due(d.queue), p.due(base.queue if base else d.queue), p.waiting_queue(d.queue)]

    def decode(reply: Any) -> list[Saved]:
        rows = []
        for row in reply[1:]:
            status = _status(row)
            rows.append(
                Saved(status, int(row[1]), int(row[2]), int(row[3]) == 1) if status == "saved" else Saved(status)
            )
        return rows

    return _call("save", decode, p, {}, keys={"live": p.live(boot)}, key_rest=queues, arg_rest=flat)


def delete(p: Partition, op: str, stored: Stored) -> Call[str]:
    """deleted, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation}
    return _call("delete", _status, p, args, keys={"due": p.due(d.queue)})


def trigger(p: Partition, op: str, stored: Stored, *, counts: bool) -> Call[tuple[str, str]]:
    """An extra run: its status (triggered, busy, spent, gone, expired, moved) and run id."""

    def decode(reply: Any) -> tuple[str, str]:
        return _status(reply), text(reply[2]) if len(reply) > 2 else ""

    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "counts": int(counts)}
    keys = {"due": p.due(d.queue), "waiting_queue": p.waiting_queue(d.queue)}
    return _call("trigger", decode, p, args, keys=keys)


def cancel(p: Partition, op: str, run_id: str, queue: str, by: str, reason: str) -> Call[tuple[str, str]]:
    """cancelled (it waited), requested (it is live), gone (it has ended), expired; or elsewhere and the queue to name."""
    args = {"op": op, "run": run_id, "by": by, "reason": reason, "queues": queue, "channel": p.cancel_channel}

    def decode(reply: Any) -> tuple[str, str]:
        return _status(reply), text(reply[2]) if len(reply) > 2 else ""

    return _call("cancel", decode, p, args, key_rest=_queue_keys(p, [queue]))


def skip(p: Partition, op: str, stored: Stored, count: int) -> Call[str]:
    """skipping, gone or expired."""
    args = {"op": op, "id": stored.definition.id, "generation": stored.generation, "count": count}
    return _call("skip", _status, p, args)


def maintain(p: Partition, op: str, from_ms: int, until_ms: int, by: str, reason: str) -> Call[str]:
    """Sets a partition's maintenance window, or ends it with ``until_ms`` 0: ok or expired."""
    args = {"op": op, "from_ms": from_ms, "until_ms": until_ms, "by": by, "reason": reason}
    return _call("maintain", _status, p, args)


def requeue(p: Partition, op: str, run_id: str, queue: str) -> Call[str]:
    """requeued, gone, ended, busy, moved or expired."""
    keys = {"waiting_queue": p.waiting_queue(queue)}
    return _call("requeue", _status, p, {"op": op, "run": run_id}, keys=keys)


def bury(p: Partition, run_ids: Sequence[str]) -> Call[int]:
    """Forgets dead runs; how many there were."""
    return _call("bury", lambda reply: int(reply[1]), p, {}, arg_rest=run_ids)


def backfill(p: Partition, op: str, stored: Stored, name: str, max_running: int, total: int, plan: Plan) -> Call[str]:
    """started, busy, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "name": name, "max_running": max_running}
    args |= {"total": total, "segments": planning.encode(Plan(plan.segments))}
    return _call("backfill", _status, p, args, keys={"waiting_queue": p.waiting_queue(d.queue)})


def unbackfill(p: Partition, task_id: str, name: str) -> Call[str]:
    """ended or gone."""
    return _call("unbackfill", _status, p, {"id": task_id, "name": name})


def mend(p: Partition, what: str, id: str, old: str = "", new: str = "", queue: str = "default") -> Call[bool]:
    """Mends one thing that is broken; False when it no longer is as it was found."""
    keys = {"due": p.due(queue), "waiting_queue": p.waiting_queue(queue)}
    args = {"what": what, "id": id, "old": old, "new": new}
    columns = [p.key(kind) for kind in TASK_FACTS]
    return _call("mend", lambda reply: _status(reply) == "mended", p, args, keys=keys, key_rest=columns)


def purge(p: Partition, before_ms: int) -> Call[tuple[int, int, bool]]:
    """Forgets what is older: entries of the ledger and reports, dead runs, and whether there is more."""

    def decode(reply: Any) -> tuple[int, int, bool]:
        return int(reply[1]), int(reply[2]), int(reply[3]) == 1

    return _call("purge", decode, p, {"before_ms": before_ms})


def pause(p: Partition, op: str, stored: Stored, by: str, reason: str, until_ms: int | None = None) -> Call[str]:
    """paused, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "by": by, "reason": reason}
    args["until_ms"] = "-" if until_ms is None else until_ms
    return _call("pause", _status, p, args, keys={"due": p.due(d.queue)})


def resume(p: Partition, op: str, stored: Stored) -> Call[str]:
    """resumed, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation}
    keys = {"due": p.due(d.queue), "waiting_queue": p.waiting_queue(d.queue)}
    return _call("resume", _status, p, args, keys=keys)


def move(p: Partition, run_id: str, old_queue: str, new_queue: str) -> Call[str]:
    """A waiting run follows its task to another queue: moved or gone."""
    keys = {"from": p.waiting_queue(old_queue), "to": p.waiting_queue(new_queue)}
    return _call("move", _status, p, {"run": run_id}, keys=keys)


def open_namespace(space: Space, partitions: int) -> Call[int]:
    """The namespace's partition count, set by whoever comes first."""
    p = space.partition(0)
    return _call(
        "namespace", lambda r: int(r[1]), p, {"partitions": partitions}, keys={"namespace": space.namespace_key}
    )


def wake(space: Space, count: int) -> Call[int]:
    """Hints for ``count`` idle workers."""
    return _call("wake", lambda r: int(r[1]), space.partition(0), {"count": count}, keys={"wake": space.wake_key})


def server_time(space: Space) -> Call[int]:
    """The server's clock in ms."""
    if space.injected_ms is not None:
        injected = space.injected_ms
        return read(lambda _reply: injected, "TIME")
    return read(_decode_time, "TIME")


def _decode_time(reply: Any) -> int:
    return int(reply[0]) * 1000 + int(reply[1]) // 1000
