"""redis-py's clients, made so that they repeat nothing by themselves."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from sisy_redis.transport.topology import Topology
from sisy_redis.transport.urls import Address, Kind, Target

_CONNECT_TIMEOUT = 5.0
_SENTINEL_TIMEOUT = 1.0
SOCKET_TIMEOUT = 5.0


def _options(timeout: float, retry: Any) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, _CONNECT_TIMEOUT),
        "client_name": "sisy",
        "decode_responses": False,
        "retry": retry,
        "retry_on_error": [],
    }


def topology_of(target: Target) -> Topology | None:
    """The map of a cluster, None where there is only one server at a time."""
    return Topology(target.seeds) if target.kind is Kind.CLUSTER else None


def _for_node(options: dict[str, Any], target: Target, address: Address) -> dict[str, Any]:
    return {**target.options, **options, "host": address.host, "port": address.port}


class Clients:
    """One connection pool a node, opened on first use."""

    def __init__(self, target: Target, socket_timeout: float) -> None:
        self._target = target
        self._options = _options(socket_timeout, Retry(NoBackoff(), 0))
        self._by_address: dict[Address | None, redis.Redis] = {}

    def of(self, address: Address | None) -> "redis.Redis":
        """The client of a node; of the only server, or of the Sentinels' primary, for None."""
        found = self._by_address.get(address)
        return self._by_address.setdefault(address, self._made(address)) if found is None else found

    def close(self) -> None:
        """Closes every connection."""
        for client in list(self._by_address.values()):
            client.close()

    def _made(self, address: Address | None) -> "redis.Redis":
        target = self._target
        if address is not None:
            return redis.Redis(**_for_node(self._options, target, address))
        if target.kind is Kind.SINGLE:
            return redis.Redis.from_url(target.url, **self._options)
        sentinels = redis.sentinel.Sentinel(
            target.seeds,
            sentinel_kwargs={**target.sentinel_options, **_options(_SENTINEL_TIMEOUT, self._options["retry"])},
        )
        made: redis.Redis = sentinels.master_for(target.service, **{**target.options, **self._options})
        return made


class AsyncClients:
    """The same for asyncio."""

    def __init__(self, target: Target, socket_timeout: float) -> None:
        self._target = target
        self._options = _options(socket_timeout, AsyncRetry(NoBackoff(), 0))
        self._by_address: dict[Address | None, redis.asyncio.Redis] = {}
        self._sentinels: redis.asyncio.sentinel.Sentinel | None = None

    def of(self, address: Address | None) -> "redis.asyncio.Redis":
        """The client of a node; of the only server, or of the Sentinels' primary, for None."""
        if address not in self._by_address:
            self._by_address[address] = self._made(address)
        return self._by_address[address]

    async def close(self) -> None:
        """Closes every connection."""
        for client in list(self._by_address.values()):
            await client.aclose()
        if self._sentinels is not None:
            for sentinel in self._sentinels.sentinels:
                await sentinel.aclose()

    def _made(self, address: Address | None) -> "redis.asyncio.Redis":
        target = self._target
        if address is not None:
            return redis.asyncio.Redis(**_for_node(self._options, target, address))
        if target.kind is Kind.SINGLE:
            return redis.asyncio.Redis.from_url(target.url, **self._options)
        self._sentinels = redis.asyncio.sentinel.Sentinel(
            target.seeds,
            sentinel_kwargs={**target.sentinel_options, **_options(_SENTINEL_TIMEOUT, self._options["retry"])},
        )
        made: redis.asyncio.Redis = self._sentinels.master_for(target.service, **{**target.options, **self._options})
        return made
