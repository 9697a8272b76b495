"""What a server says about how safely it keeps data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One primary. ``replicas`` counts those connected; ``min_replicas`` is its min-replicas-to-write."""

    name: str
    eviction_policy: str
    is_persistent: bool
    replicas: int
    min_replicas: int


def facts_of(client: "redis.Redis", name: str) -> ServerFacts | None:
    """None where CONFIG is forbidden or not there, as at some hosting services."""
    try:
        read: Callable[..., Any] = client.config_get
        found = {
            option: str(_text(value))
            for pattern in ("maxmemory-policy", "save", "appendonly", "min-replicas-to-write")
            for option, value in read(pattern).items()
        }
        replicas = int(client.info("replication").get("connected_slaves", 0))
    except redis.ResponseError:
        return None
    is_persistent = found.get("appendonly") == "yes" or bool(found.get("save"))
    minimum = int(found.get("min-replicas-to-write") or 0)
    return ServerFacts(name, found.get("maxmemory-policy", ""), is_persistent, replicas, minimum)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def version_of(client: "redis.Redis") -> str:
    """Which server answers, and its version."""
    info = client.info("server")
    if info.get("server_name") == "valkey":
        return f"Valkey {info.get('valkey_version')}"
    return f"Redis {info.get('redis_version')}"
