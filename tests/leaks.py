"""What a test left in Redis: nothing may belong to tasks or runs that are gone, and every key must be known."""

import redis

from sisy_redis import doctor
from sisy_redis.keys import FIXED_KINDS, Space
from sisy_redis.transport import Transport

_FAMILIES = ("due", "waiting", "live")


def check(client: "redis.Redis", url: str, namespace: str) -> None:
    """Fails when something of the namespace cannot be, or is of no known kind."""
    partitions = int(client.hget(Space(namespace).namespace_key, "partitions") or 1)
    unknown = []
    for key in client.scan_iter(f"sisy:*{namespace}*", count=1000):
        kind, _, name = key.decode().partition("}:")[2].partition(":")
        if (
            not (kind in FIXED_KINDS and not name)
            and not (kind in _FAMILIES and name)
            and kind not in ("namespace", "wake")
        ):
            unknown.append(key.decode())
    assert not unknown, f"keys of no known kind: {unknown}"
    transport = Transport(url, patience=5.0)
    try:
        found = transport.run(doctor.examine(Space(namespace, partitions), fix=False))
    finally:
        transport.close()
    assert not found, f"left over, or broken: {found}"
