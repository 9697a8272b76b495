"""Which node of a cluster serves which slot, as far as this process knows. No I/O.

redis-py's RedisCluster is not used: its pipelines send a command again after a lost reply (whatever its ``retry`` says),
it sleeps in the middle of a call when a node is down, and ``WAIT`` cannot be kept on the connection of the write.
"""

import random
from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot

from sisy_redis import clock
from sisy_redis.transport.urls import Address

SLOTS = 16384
_LEAST_BETWEEN = 0.25


class Topology:
    """A map of slots to primaries, refreshed after failures; ``seeds`` are asked when nobody else answers."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._seeds = tuple(seeds)
        self._primaries: list[Address | None] = [None] * SLOTS
        self._replicas: frozenset[Address] = frozenset()
        self._avoided: dict[Address, float] = {}
        self._is_stale = True
        self._learned_at = float("-inf")

    @property
    def primaries(self) -> list[Address]:
        """Every primary that serves slots."""
        return sorted({address for address in self._primaries if address is not None})

    @property
    def is_outdated(self) -> bool:
        """Something failed since the map was learned; a fresh one is not outdated at once, or failures would double."""
        return self._is_stale and clock.monotonic() - self._learned_at >= _LEAST_BETWEEN

    def serving(self, key: str | None) -> Address | None:
        """The primary of a key; for None, any. None where nobody serves its slot."""
        if key is not None:
            return self._primaries[key_slot(key.encode())]
        known = [address for address in self.primaries if not self.is_avoided(address)] or self.primaries
        return random.choice(known) if known else None

    def moved(self, slot: int, address: Address) -> None:
        """A node said who serves a slot now; where one slot moved, others may have."""
        self._primaries[slot] = address
        self._is_stale = True

    def doubt(self) -> None:
        """The map may be wrong."""
        self._is_stale = True

    def failed(self, address: Address, seconds: float) -> None:
        """A node could not be reached: it is left alone for ``seconds``, so that it does not hold up the others' work."""
        self._is_stale = True
        self._avoided[address] = clock.monotonic() + seconds

    def is_avoided(self, address: Address) -> bool:
        """Whether the node failed a moment ago."""
        until = self._avoided.get(address)
        if until is None:
            return False
        if clock.monotonic() >= until:
            self._avoided.pop(address, None)
            return False
        return True

    def to_ask(self) -> list[Address]:
        """Who may know the map: nodes that answered last first, in random order, as one alone may be cut off."""
        known = [*{*self.primaries, *self._replicas}]
        random.shuffle(known)
        everyone = list(dict.fromkeys([*known, *self._seeds]))
        return sorted(everyone, key=self.is_avoided)

    def learn(self, slots: Any, asked: Address) -> bool:
        """Takes the answer of CLUSTER SLOTS from the node that was ``asked``; False where it names no primary at all."""
        primaries: list[Address | None] = [None] * SLOTS
        replicas: set[Address] = set()
        for first, last, primary, *others in slots:
            primaries[int(first) : int(last) + 1] = [_address(primary, asked)] * (int(last) - int(first) + 1)
            replicas.update(_address(other, asked) for other in others)
        if not any(primaries):
            return False
        self._primaries, self._replicas = primaries, frozenset(replicas)
        # A map with holes is used, and asked for again with the next call.
        self._is_stale = not all(primaries)
        self._learned_at = clock.monotonic()
        return True


def _address(row: Sequence[Any], asked: Address) -> Address:
    host = row[0].decode() if isinstance(row[0], bytes) else row[0]
    # A node that does not know its own name means the one it was asked by.
    return Address(host if host and host != "?" else asked.host, int(row[1]))
