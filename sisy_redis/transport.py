"""The one door to Redis, and the only importer of redis: sends calls, maps errors, repeats what may be repeated.

Clients here never retry by themselves: after a lost reply only the layer that knows the call may send it again. Every call
is idempotent, so ``Transport.run`` repeats it, unchanged, while Redis cannot be reached.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from tenacity import AsyncRetrying, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from sisy_redis import calls
from sisy_redis.calls import Call
from sisy_redis.errors import RedisUnavailable, SettingsError, SisyError
from sisy_redis.keys import Space

T = TypeVar("T")
Steps = Generator[Sequence[Call[Any]], list[Any], T]
"""An operation: yields the calls to send together, is sent their decoded answers, returns its result."""

log = logging.getLogger(__name__)

# redis-py takes the code out of the texts of the errors it has classes for.
_TRANSIENT = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
)
_TRANSIENT_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE", "UNBLOCKED")
_CONNECT_TIMEOUT = 5.0
_SOCKET_TIMEOUT = 5.0
_SILENCE = 30.0


def _mapped(error: Exception, url: str) -> Exception:
    if isinstance(error, redis.AuthenticationError):
        return SettingsError(f"Redis refused the user or password: {error}; check the URL")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        refusal = _tls_refusal(error) if url.startswith("rediss") else ""
        if refusal:
            return SettingsError(refusal)
        return RedisUnavailable(f"Redis cannot be reached: {error}")
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(f"Redis is full: {error}; raise maxmemory or delete tasks")
    if isinstance(error, redis.ResponseError):
        if isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_CODES):
            return RedisUnavailable(f"Redis refuses to work at the moment: {error}")
        return SisyError(f"Redis answered with an error: {error}")
    return error


def _tls_refusal(error: BaseException) -> str:
    """What is wrong with the TLS settings where they made the connection fail; waiting would not mend it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"Redis's TLS certificate is not trusted: {cause.verify_message}; name the authority that signed it with "
                "?ssl_ca_certs=FILE in the URL"
            )
        if isinstance(cause, FileNotFoundError | PermissionError) and cause.filename is None:
            return f"a TLS file that the URL names cannot be read ({cause.strerror}); check its ssl_ca_certs"
        cause = cause.__cause__ or cause.__context__
    return ""


def check_url(url: str) -> None:
    """Raises SettingsError for a URL that no client here can use."""
    scheme = url.partition("://")[0]
    if scheme not in ("redis", "rediss", "unix"):
        raise SettingsError(f"the Redis URL has the scheme {scheme!r}; use redis://, rediss:// or unix://")
    try:
        urlsplit(url).port  # noqa: B018 - it raises
    except ValueError:
        # The URL is not quoted: what was taken for a port may be part of a password.
        raise SettingsError(
            "the Redis URL's port is no number; a password with / or : in it must be percent-encoded"
        ) from None


def _options(url: str, decode: bool, timeout: float) -> dict[str, Any]:
    check_url(url)
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "client_name": "sisy",
        "decode_responses": decode,
    }


def _command(call: Call[Any], *, whole: bool) -> tuple[Any, ...]:
    if call.script is None:
        return call.args
    code = ("EVAL", call.script.text) if whole else ("EVALSHA", call.script.sha)
    return (*code, len(call.keys), *call.keys, *call.args)


def _missing(replies: Sequence[Any]) -> list[int]:
    return [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]


def _decoded(batch: Sequence[Call[Any]], replies: Sequence[Any], url: str) -> list[Any]:
    """Each call's answer, or in its place the error it was refused with."""
    return [
        _mapped(reply, url) if isinstance(reply, Exception) else call.decode(reply)
        for call, reply in zip(batch, replies, strict=True)
    ]


def _all_answered(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _patience(seconds: float) -> dict[str, Any]:
    return {
        "retry": retry_if_exception_type(RedisUnavailable),
        "stop": stop_after_delay(seconds),
        "wait": wait_random_exponential(multiplier=0.05, max=1),
        "reraise": True,
    }


class Transport:
    """A synchronous connection pool. ``patience``: how many seconds a call is repeated while Redis cannot be reached."""

    def __init__(self, url: str, *, patience: float = 10.0, socket_timeout: float = _SOCKET_TIMEOUT) -> None:
        self.url = url
        self._patience = patience
        self._client = redis.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), retry_on_error=[], **_options(url, False, socket_timeout)
        )

    def execute(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """Sends the calls in one round trip, once, and returns their decoded answers.

        Raises RedisUnavailable when Redis cannot be reached; the calls may have been executed all the same.
        """
        try:
            replies = self._send(batch, whole=False)
            missing = _missing(replies)
            if missing:
                for i, reply in zip(missing, self._send([batch[i] for i in missing], whole=True), strict=True):
                    replies[i] = reply
        except (redis.RedisError, OSError) as error:
            # Its other idle connections are as dead; each would fail one more call after the server is back.
            self._client.connection_pool.disconnect(inuse_connections=False)
            raise _mapped(error, self.url) from error
        return _all_answered(_decoded(batch, replies, self.url))

    def run(self, steps: Steps[T]) -> T:
        """Drives an operation to its result, repeating each of its calls while Redis cannot be reached."""
        answer: list[Any] | None = None
        while True:
            try:
                batch = next(steps) if answer is None else steps.send(answer)
            except StopIteration as done:
                return cast(T, done.value)
            answer = Retrying(**_patience(self._patience))(self.execute, batch)

    def server_version(self) -> str:
        """Which server answers, and its version."""
        try:
            info = self._client.info("server")
        except (redis.RedisError, OSError) as error:
            raise _mapped(error, self.url) from error
        if info.get("server_name") == "valkey":
            return f"Valkey {info.get('valkey_version')}"
        return f"Redis {info.get('redis_version')}"

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()

    def _send(self, batch: Sequence[Call[Any]], *, whole: bool) -> list[Any]:
        if len(batch) == 1:
            try:
                return [self._client.execute_command(*_command(batch[0], whole=whole))]
            except redis.ResponseError as error:
                return [error]
        with self._client.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.execute_command(*_command(call, whole=whole))
            return pipe.execute(raise_on_error=False)


class AsyncTransport:
    """The same for asyncio."""

    def __init__(self, url: str, *, patience: float = 10.0, socket_timeout: float = _SOCKET_TIMEOUT) -> None:
        self.url = url
        self._patience = patience
        self._client = redis.asyncio.Redis.from_url(
            url, retry=AsyncRetry(NoBackoff(), 0), retry_on_error=[], **_options(url, False, socket_timeout)
        )

    async def execute(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """Sends the calls in one round trip, once. Raises RedisUnavailable like its synchronous twin."""
        return _all_answered(await self.exchange(batch))

    async def exchange(self, batch: Sequence[Call[Any]]) -> list[Any]:
        """``execute``, where a call that was refused has its error in the place of its answer.

        What was answered beside it counts: a full server settles though it admits nothing.
        """
        try:
            replies = await self._send(batch, whole=False)
            missing = _missing(replies)
            if missing:
                for i, reply in zip(missing, await self._send([batch[i] for i in missing], whole=True), strict=True):
                    replies[i] = reply
        except (redis.RedisError, OSError) as error:
            await self._client.connection_pool.disconnect(inuse_connections=False)
            raise _mapped(error, self.url) from error
        return _decoded(batch, replies, self.url)

    async def run(self, steps: Steps[T]) -> T:
        """Drives an operation to its result, repeating each of its calls while Redis cannot be reached."""
        answer: list[Any] | None = None
        while True:
            try:
                batch = next(steps) if answer is None else steps.send(answer)
            except StopIteration as done:
                return cast(T, done.value)
            answer = await AsyncRetrying(**_patience(self._patience))(self.execute, batch)

    async def wait_for_wake(self, space: Space, seconds: float) -> bool:
        """Waits for a hint that something may be due; False after ``seconds``.

        The server keeps the time of BLPOP, so this side bounds it too.
        """
        client = self._client
        try:
            return await client.blpop([space.wake_key], timeout=max(0.01, round(seconds, 2))) is not None
        except redis.TimeoutError:
            return False
        except (redis.RedisError, OSError) as error:
            raise _mapped(error, self.url) from error

    async def messages(self, channels: Sequence[str]) -> AsyncIterator[str]:
        """What is published on some channels, from now on. Raises RedisUnavailable when the connection ends."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(*channels)
            while True:
                message = await pubsub.get_message(timeout=_SILENCE)
                if message is not None:
                    yield calls.text(message["data"])
        except (redis.RedisError, OSError) as error:
            raise _mapped(error, self.url) from error
        finally:
            with suppress(redis.RedisError, OSError):
                await pubsub.aclose()

    async def close(self) -> None:
        """Closes every connection."""
        with suppress(redis.RedisError, OSError):
            await self._client.aclose()

    async def _send(self, batch: Sequence[Call[Any]], *, whole: bool) -> list[Any]:
        if len(batch) == 1:
            try:
                return [await self._client.execute_command(*_command(batch[0], whole=whole))]
            except redis.ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.execute_command(*_command(call, whole=whole))
            return await pipe.execute(raise_on_error=False)


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
