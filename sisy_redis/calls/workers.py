"""Calls about boots and their leases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sisy_redis.calls.call import Call, make_call, queue_keys, read, status_of, text
from sisy_redis.keys import Partition


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


def register(p: Partition, op: str, lease_ms: int, queues: Sequence[str], name: str) -> Call[Registered]:
    """A boot id and the first lease."""

    def decode(reply: Any) -> Registered:
        ok = status_of(reply) == "ok"
        return Registered(text(reply[1]) if ok else None, int(reply[-1]))

    return make_call("register", decode, p, {"op": op, "lease_ms": lease_ms, "queues": ",".join(queues), "name": name})


def renew(p: Partition, boot: str) -> Call[Renewed]:
    """Another lease, and whose ran out."""

    def decode(reply: Any) -> Renewed:
        if status_of(reply) != "ok":
            return Renewed(True)
        expired = tuple(Expired(*map(text, row)) for row in reply[3:])
        return Renewed(False, expired, tuple(text(run) for run in reply[2]))

    return make_call("renew", decode, p, {"boot": boot}, keys={"live": p.live(boot)})


def live_runs(p: Partition, boot: str) -> Call[dict[str, int]]:
    """What the server says a worker holds: run ids and their tokens."""

    def decode(reply: Any) -> dict[str, int]:
        rows = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {text(run): int(text(fields).partition(" ")[0]) for run, fields in rows}

    return read(decode, "HGETALL", p.live(boot))


def leave(p: Partition, boot: str) -> Call[str]:
    """Gives up a boot."""
    return make_call("leave", status_of, p, {"boot": boot}, keys={"live": p.live(boot)})


def reap(p: Partition, expired: Expired) -> Call[Reaped]:
    """Takes back a batch of a dead worker's attempts."""
    queues = [name for name in expired.queues.split(",") if name]

    def decode(reply: Any) -> Reaped:
        status = status_of(reply)
        if status != "reaped":
            return Reaped(status)
        return Reaped(status, int(reply[2]), int(reply[3]), tuple(text(queue) for queue in reply[4:]))

    return make_call(
        "reap",
        decode,
        p,
        {"boot": expired.boot, "queues": expired.queues},
        keys={"live": p.live(expired.boot)},
        key_rest=queue_keys(p, queues),
    )
