"""Calls about a namespace as a whole."""

from typing import Any

from sisy_redis.calls.call import Call, make_call, read, status_of
from sisy_redis.keys import TASK_FACTS, Partition, Space


def open_namespace(space: Space, partitions: int) -> Call[int]:
    """The namespace's partition count, set by whoever comes first."""
    p = space.partition(0)
    return make_call(
        "namespace", lambda r: int(r[1]), p, {"partitions": partitions}, keys={"namespace": space.namespace_key}
    )


def wake(space: Space, count: int) -> Call[int]:
    """Hints for ``count`` idle workers."""
    return make_call("wake", lambda r: int(r[1]), space.partition(0), {"count": count}, keys={"wake": space.wake_key})


def server_time(space: Space) -> Call[int]:
    """The server's clock in ms."""
    if space.injected_ms is not None:
        injected = space.injected_ms
        return read(lambda _reply: injected, "TIME")
    return read(_decode_time, "TIME")


def _decode_time(reply: Any) -> int:
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def maintain(p: Partition, op: str, from_ms: int, until_ms: int, by: str, reason: str) -> Call[str]:
    """Sets a partition's maintenance window, or ends it with ``until_ms`` 0: ok or expired."""
    args = {"op": op, "from_ms": from_ms, "until_ms": until_ms, "by": by, "reason": reason}
    return make_call("maintain", status_of, p, args)


def mend(p: Partition, what: str, id: str, old: str = "", new: str = "", queue: str = "default") -> Call[bool]:
    """Mends one thing that is broken; False when it no longer is as it was found."""
    keys = {"due": p.due(queue), "waiting_queue": p.waiting_queue(queue)}
    args = {"what": what, "id": id, "old": old, "new": new}
    columns = [p.key(kind) for kind in TASK_FACTS]
    return make_call("mend", lambda reply: status_of(reply) == "mended", p, args, keys=keys, key_rest=columns)


def purge(p: Partition, before_ms: int) -> Call[tuple[int, int, bool]]:
    """Forgets what is older: entries of the ledger and reports, dead runs, and whether there is more."""

    def decode(reply: Any) -> tuple[int, int, bool]:
        return int(reply[1]), int(reply[2]), int(reply[3]) == 1

    return make_call("purge", decode, p, {"before_ms": before_ms})
