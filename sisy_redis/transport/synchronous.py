"""The synchronous door."""

from collections.abc import Generator, Sequence
from typing import Any, TypeVar, cast

import redis
from tenacity import Retrying

from sisy_redis import calls
from sisy_redis.calls import Call
from sisy_redis.errors import SettingsError
from sisy_redis.keys import Space
from sisy_redis.transport.clients import SOCKET_TIMEOUT, Clients, topology_of
from sisy_redis.transport.delivery import Acknowledgement, Parcel, Sent, deliver, refreshed
from sisy_redis.transport.inspection import ServerFacts, facts_of, version_of
from sisy_redis.transport.patience import Shortfall, Steps, patience
from sisy_redis.transport.replies import all_answered, decoded, mapped
from sisy_redis.transport.urls import Address, target_of

T = TypeVar("T")


class Transport:
    """Synchronous connections. ``patience``: how many seconds a call is repeated while Redis cannot be reached.

    ``wait_replicas``: how many replicas have to acknowledge a save or a claim.
    """

    def __init__(
        self, url: str, *, patience: float = 10.0, socket_timeout: float = SOCKET_TIMEOUT, wait_replicas: int = 0
    ) -> None:
        self.url = url
        self._patience = patience
        target = target_of(url)
        self._clients = Clients(target, socket_timeout)
        self._topology = topology_of(target)
        self._acknowledgement = Acknowledgement(wait_replicas)

    def execute(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """Sends the calls in one round trip a node, once, and returns their decoded answers.

        Raises RedisUnavailable when Redis cannot be reached; the calls may have been executed all the same. Raises
        NotAcknowledged when too few replicas acknowledged what was executed.
        """
        return all_answered(self.exchange(batch))

    def exchange(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """``execute``, where a call that was refused has its error in the place of its answer.

        What was answered beside it counts: a full server settles though it admits nothing, and of a cluster's nodes the
        others answer when one is down.
        """
        replies = self._driven(deliver(batch, self._topology, self._acknowledgement))
        return decoded(batch, replies, self._acknowledgement.replicas, self.url)

    def run(self, steps: Steps[T]) -> T:
        """Drives an operation to its result, repeating each of its calls while Redis cannot be reached.

        Raises NotAcknowledged at its end when too few replicas acknowledged what it stored.
        """
        answer: list[Any] | None = None
        shortfall = Shortfall()
        while True:
            try:
                batch = next(steps) if answer is None else steps.send(answer)
            except StopIteration as done:
                shortfall.tell()
                return cast(T, done.value)
            answer = Retrying(**patience(self._patience))(self._attempted, batch, shortfall)

    def _attempted(self, batch: Sequence[Call[Any]], shortfall: Shortfall) -> list[Any]:
        return shortfall.taken_out(self.exchange(batch))

    def server_version(self) -> str:
        """Which server answers, and its version."""
        try:
            return version_of(self._clients.of(self._primaries()[0]))
        except (redis.RedisError, OSError) as error:
            raise mapped(error, self.url) from error

    def server_facts(self) -> list[ServerFacts]:
        """How safely each primary keeps data; those that do not say are left out."""
        try:
            found = []
            for address in self._primaries():
                name = "Redis" if address is None else f"{address.host}:{address.port}"
                found.append(facts_of(self._clients.of(address), name))
            return [facts for facts in found if facts is not None]
        except (redis.RedisError, OSError) as error:
            raise mapped(error, self.url) from error

    def close(self) -> None:
        """Closes every connection."""
        self._clients.close()

    def _primaries(self) -> Sequence[Address | None]:
        if self._topology is None:
            return [None]
        if self._topology.is_outdated:
            self._driven(refreshed(self._topology))
        return self._topology.primaries

    def _driven(self, delivery: Generator[list[Parcel], list[Sent], T]) -> T:
        answers: list[Sent] | None = None
        while True:
            try:
                parcels = next(delivery) if answers is None else delivery.send(answers)
            except StopIteration as done:
                return cast(T, done.value)
            except (redis.RedisError, OSError) as error:
                raise mapped(error, self.url) from error
            answers = [self._send(parcel) for parcel in parcels]

    def _send(self, parcel: Parcel) -> Sent:
        client = self._clients.of(parcel.address)
        try:
            if len(parcel.commands) == 1:
                try:
                    return [client.execute_command(*parcel.commands[0])]
                except redis.ResponseError as error:
                    return [error]
            with client.pipeline(transaction=False) as pipe:
                for command in parcel.commands:
                    pipe.execute_command(*command)
                return pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            # Its other idle connections are as dead; each would fail one more call after the server is back.
            client.connection_pool.disconnect(inuse_connections=False)
            return error


def partitions_of(transport: Transport, space: Space, wanted: int) -> int:
    """The namespace's partition count; it is fixed when the namespace is first used.

    Raises SettingsError when it differs from the setting.
    """
    (found,) = transport.execute([calls.open_namespace(space, wanted)])
    if found != wanted:
        raise SettingsError(
            f"namespace {space.namespace!r} has {found} partitions, the setting SISY_PARTITIONS says {wanted}; "
            f"set it to {found}, or use another namespace"
        )
    return cast(int, found)
