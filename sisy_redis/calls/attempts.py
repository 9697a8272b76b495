"""Calls that grant attempts and end them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sisy_redis import codec
from sisy_redis.calls.call import Call, make_call, queue_keys, status_of, text
from sisy_redis.calls.plans import PlanState, Unplannable, decode_plan_states
from sisy_redis.definitions import Attempt
from sisy_redis.keys import Partition, task_id_of
from sisy_redis.signing import Signer


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
    replans: tuple[PlanState, ...] = ()
    lows: tuple[PlanState, ...] = ()
    unplannable: tuple[Unplannable, ...] = ()
    cancels: tuple[str, ...] = ()
    untrusted: tuple[Untrusted, ...] = ()


def claim(
    p: Partition, boot: str, seq: int, slots: int, queues: Sequence[str], refused_paths: Sequence[str] = ()
) -> Call[Claimed]:
    """Decides what is due and takes at most ``slots`` attempts. ``refused_paths``: also the marks of untrusted records."""

    def decode(reply: Any) -> Claimed:
        status, now_ms = status_of(reply), int(reply[1])
        if status != "ok":
            return Claimed(status, now_ms)
        attempts, unreadable, untrusted = _decode_attempts(reply[5], p.signer)
        replans, lost = decode_plan_states(reply[6], p.signer)
        lows, _ = decode_plan_states(reply[7], p.signer)
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

    return make_call(
        "claim",
        decode,
        p,
        {"boot": boot, "seq": seq, "slots": slots, "queues": ",".join(queues), "channel": p.cancel_channel},
        keys={"live": p.live(boot)},
        key_rest=queue_keys(p, queues),
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


def start(p: Partition, boot: str, run_id: str, token: int) -> Call[bool]:
    """Marks a redelivered attempt as started; False when its token is stale."""
    return make_call(
        "start", lambda r: status_of(r) == "started", p, {"run": run_id, "token": token}, keys={"live": p.live(boot)}
    )


def settle(p: Partition, boot: str, worker: str, settlements: Sequence[Settlement]) -> Call[list[str]]:
    """Ends attempts: settled, stale, or "elsewhere <queue>": the run has to wait in that queue, so settle it with that."""
    flat: list[Any] = []
    queues = list(dict.fromkeys(s.queue for s in settlements))
    for s in settlements:
        flat += [s.run_id, s.token, s.action, s.delay_ms, s.started_ms, s.duration_ms, s.text, s.result]
        flat.append(int(s.is_dead))
    return make_call(
        "settle",
        lambda reply: [text(row) for row in reply[2:]],
        p,
        {"worker": worker, "queues": ",".join(queues)},
        keys={"live": p.live(boot)},
        key_rest=queue_keys(p, queues),
        arg_rest=flat,
    )


def note_progress(p: Partition, boot: str, run_id: str, token: int, text: str) -> Call[bool]:
    """How far a live run has come; False when its token is stale."""
    args = {"run": run_id, "token": token, "text": text}
    return make_call("progress", lambda reply: status_of(reply) == "noted", p, args, keys={"live": p.live(boot)})
