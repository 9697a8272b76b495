"""What Redis said, in our words: its errors, mapped in this one place, and each call's decoded answer."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from sisy_redis.calls import Call
from sisy_redis.errors import NotAcknowledged, RedisUnavailable, SettingsError, SisyError

# redis-py takes the code out of the texts of the errors it has classes for.
_TRANSIENT = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.AskError,
    redis.exceptions.SlotNotCoveredError,
)
_TRANSIENT_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE", "UNBLOCKED")


@dataclass(slots=True)
class Reply:
    """What came back for a call. ``acknowledged``: by how many replicas, None where nobody asked."""

    raw: Any = None
    acknowledged: int | None = None


def mapped(error: Exception, url: str) -> Exception:
    """Our error for one of redis-py's; others are returned as they are."""
    if isinstance(error, redis.AuthenticationError):
        return SettingsError(f"Redis refused the user or password: {error}; check the URL")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        refusal = _tls_refusal(error) if url.startswith("rediss") else ""
        if refusal:
            return SettingsError(refusal)
        return RedisUnavailable(f"Redis cannot be reached: {error}")
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(f"Redis is full: {error}; raise maxmemory or delete tasks")
    if isinstance(error, _TRANSIENT) or (isinstance(error, redis.ResponseError) and _has_transient_code(error)):
        return RedisUnavailable(f"Redis refuses to work at the moment: {error}")
    if isinstance(error, redis.RedisError):
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


def _has_transient_code(error: redis.ResponseError) -> bool:
    return str(error).startswith(_TRANSIENT_CODES)


def decoded(batch: Sequence[Call[Any]], replies: Sequence[Reply], wait_replicas: int, url: str) -> list[Any]:
    """Each call's answer, or in its place the error it was refused with, or that replicas did not acknowledge it."""
    answers: list[Any] = []
    for call, reply in zip(batch, replies, strict=True):
        if isinstance(reply.raw, Exception):
            answers.append(mapped(reply.raw, url))
            continue
        answer = call.decode(reply.raw)
        if reply.acknowledged is not None and reply.acknowledged < wait_replicas:
            answer = NotAcknowledged(answer, reply.acknowledged, wait_replicas)
        answers.append(answer)
    return answers


def all_answered(answers: list[Any]) -> list[Any]:
    """The answers; raises the first error among them."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
