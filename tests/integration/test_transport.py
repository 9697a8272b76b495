"""The door to Redis: what is sent once, what is repeated, and by whom."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import Server

from sisy_redis import calls
from sisy_redis.calls import Call
from sisy_redis.errors import RedisUnavailable
from sisy_redis.keys import Space
from sisy_redis.scripts import script
from sisy_redis.transport import AsyncTransport, Transport

Execute = Callable[[str, list[Call[Any]]], list[Any]]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with_losses = Proxy(server.port, script("wake").sha.encode())
    yield with_losses
    with_losses.close()


def _sync(url: str, batch: list[Call[Any]]) -> list[Any]:
    transport = Transport(url)
    try:
        return transport.execute(batch)
    finally:
        transport.close()


def _async(url: str, batch: list[Call[Any]]) -> list[Any]:
    async def go() -> list[Any]:
        transport = AsyncTransport(url)
        try:
            return await transport.execute(batch)
        finally:
            await transport.close()

    return asyncio.run(go())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("execute", [_sync, _async])
def test_a_call_whose_reply_was_lost_is_not_sent_again_by_the_client(
    proxy: Proxy, namespace: str, execute: Execute, size: int
) -> None:
    batch = [calls.wake(Space(namespace), 1)] * size
    execute(proxy.url, batch)
    proxy.losses = 100
    with pytest.raises(RedisUnavailable):
        execute(proxy.url, batch)
    assert proxy.lost == 1


@pytest.mark.parametrize("execute", [_sync, _async])
def test_a_script_the_server_forgot_is_sent_whole(
    server: Server, client: Any, namespace: str, execute: Execute
) -> None:
    batch = [calls.wake(Space(namespace), 1), calls.server_time(Space(namespace)), calls.wake(Space(namespace), 2)]
    client.script_flush()
    first, _, third = execute(server.url, batch)
    assert (first, third) == (1, 2)


def test_an_operation_repeats_its_calls_while_redis_cannot_be_reached(proxy: Proxy, namespace: str) -> None:
    def steps() -> Any:
        (length,) = yield [calls.wake(Space(namespace), 1)]
        return length

    transport = Transport(proxy.url)
    transport.run(steps())
    proxy.losses = 3
    assert transport.run(steps()) == 1
    assert proxy.lost == 3
    transport.close()


def test_a_unix_socket_that_is_not_there_is_an_outage_and_no_matter_of_tls(tmp_path: Path) -> None:
    transport = Transport(f"unix://{tmp_path}/missing.sock", patience=0.0)
    with pytest.raises(RedisUnavailable):
        transport.execute([calls.server_time(Space())])
