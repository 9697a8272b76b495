"""The door for asyncio; what it promises is said at its synchronous twin."""

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import redis
from redis.asyncio.client import PubSub
from redis.exceptions import AskError, MovedError
from tenacity import AsyncRetrying

from sisy_redis.calls import Call, text
from sisy_redis.keys import Space
from sisy_redis.transport.clients import SOCKET_TIMEOUT, AsyncClients, topology_of
from sisy_redis.transport.delivery import Acknowledgement, Parcel, Sent, deliver, refreshed
from sisy_redis.transport.patience import Shortfall, Steps, patience
from sisy_redis.transport.replies import all_answered, decoded, mapped
from sisy_redis.transport.urls import Address, target_of

T = TypeVar("T")

_SILENCE = 30.0


class AsyncTransport:
    """``Transport`` for asyncio."""

    def __init__(
        self, url: str, *, patience: float = 10.0, socket_timeout: float = SOCKET_TIMEOUT, wait_replicas: int = 0
    ) -> None:
        self.url = url
        self._patience = patience
        target = target_of(url)
        self._clients = AsyncClients(target, socket_timeout)
        self._topology = topology_of(target)
        self._acknowledgement = Acknowledgement(wait_replicas)

    async def execute(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """Sends the calls in one round trip a node, once. Raises like its synchronous twin."""
        return all_answered(await self.exchange(batch))

    async def exchange(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """``execute``, where a call that was refused has its error in the place of its answer."""
        replies = await self._driven(deliver(batch, self._topology, self._acknowledgement))
        return decoded(batch, replies, self._acknowledgement.replicas, self.url)

    async def run(self, steps: Steps[T]) -> T:
        """Drives an operation to its result, repeating each of its calls while Redis cannot be reached."""
        answer: list[Any] | None = None
        shortfall = Shortfall()
        while True:
            try:
                batch = next(steps) if answer is None else steps.send(answer)
            except StopIteration as done:
                shortfall.tell()
                return cast(T, done.value)
            answer = await AsyncRetrying(**patience(self._patience))(self._attempted, batch, shortfall)

    async def _attempted(self, batch: Sequence[Call[Any]], shortfall: Shortfall) -> list[Any]:
        return shortfall.taken_out(await self.exchange(batch))

    async def wait_for_wake(self, space: Space, seconds: float) -> bool:
        """Waits for a hint that something may be due; False after ``seconds``.

        The server keeps the time of BLPOP, so this side bounds it too.
        """
        address: Address | None = None
        try:
            if self._topology is not None:
                if self._topology.is_outdated:
                    await self._driven(refreshed(self._topology))
                address = self._topology.serving(space.wake_key)
            client = self._clients.of(address)
            return await client.blpop([space.wake_key], timeout=max(0.01, round(seconds, 2))) is not None
        except redis.TimeoutError:
            return False
        except (redis.RedisError, OSError) as error:
            self._doubt(error, address)
            raise mapped(error, self.url) from error

    async def messages(self, channels: Sequence[str]) -> AsyncIterator[str]:
        """What is published on some channels, from now on. Raises RedisUnavailable when the connection ends.

        A cluster's nodes pass on to each other what is published on any of them.
        """
        address: Address | None = None
        pubsub: PubSub | None = None
        try:
            if self._topology is not None:
                if self._topology.is_outdated:
                    await self._driven(refreshed(self._topology))
                address = self._topology.serving(channels[0])
            pubsub = self._clients.of(address).pubsub(ignore_subscribe_messages=True)
            await pubsub.subscribe(*channels)
            while True:
                message = await pubsub.get_message(timeout=_SILENCE)
                if message is not None:
                    yield text(message["data"])
        except (redis.RedisError, OSError) as error:
            self._doubt(error, address)
            raise mapped(error, self.url) from error
        finally:
            if pubsub is not None:
                with suppress(redis.RedisError, OSError):
                    await pubsub.aclose()

    def _doubt(self, error: Exception, address: Address | None) -> None:
        if self._topology is None or address is None:
            return
        if isinstance(error, MovedError):
            self._topology.moved(int(error.slot_id), Address(error.host or address.host, int(error.port)))
        elif not isinstance(error, AskError):
            self._topology.doubt()

    async def close(self) -> None:
        """Closes every connection."""
        with suppress(redis.RedisError, OSError):
            await self._clients.close()

    async def _driven(self, delivery: Generator[list[Parcel], list[Sent], T]) -> T:
        answers: list[Sent] | None = None
        while True:
            try:
                parcels = next(delivery) if answers is None else delivery.send(answers)
            except StopIteration as done:
                return cast(T, done.value)
            except (redis.RedisError, OSError) as error:
                raise mapped(error, self.url) from error
            if len(parcels) == 1:
                answers = [await self._send(parcels[0])]
            else:
                answers = list(await asyncio.gather(*map(self._send, parcels)))

    async def _send(self, parcel: Parcel) -> Sent:
        client = self._clients.of(parcel.address)
        try:
            if len(parcel.commands) == 1:
                try:
                    return [await client.execute_command(*parcel.commands[0])]
                except redis.ResponseError as error:
                    return [error]
            async with client.pipeline(transaction=False) as pipe:
                for command in parcel.commands:
                    pipe.execute_command(*command)
                return await pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            await client.connection_pool.disconnect(inuse_connections=False)
            return error
