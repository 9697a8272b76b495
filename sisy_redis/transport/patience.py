"""Driving operations: how long their calls are repeated while Redis cannot be reached."""

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from tenacity import retry_if_exception_type, stop_after_delay, wait_random_exponential

from sisy_redis.calls import Call
from sisy_redis.errors import NotAcknowledged, RedisUnavailable

T = TypeVar("T")
Steps = Generator[Sequence[Call[Any]], list[Any], T]
"""An operation: yields the calls to send together, is sent their decoded answers, returns its result."""


def patience(seconds: float) -> dict[str, Any]:
    """tenacity's arguments."""
    return {
        "retry": retry_if_exception_type(RedisUnavailable),
        "stop": stop_after_delay(seconds),
        "wait": wait_random_exponential(multiplier=0.05, max=1),
        "reraise": True,
    }


class Shortfall:
    """What replicas did not acknowledge within one operation. The operation is ended all the same: it is stored."""

    def __init__(self) -> None:
        self._first: NotAcknowledged | None = None

    def taken_out(self, answers: list[Any]) -> list[Any]:
        """The answers, those that were not acknowledged as if they had been. Raises the first other error."""
        found = []
        for answer in answers:
            if isinstance(answer, NotAcknowledged):
                self._first = self._first or answer
                found.append(answer.answer)
            elif isinstance(answer, Exception):
                raise answer
            else:
                found.append(answer)
        return found

    def tell(self) -> None:
        """Raises NotAcknowledged where something was not."""
        if self._first is not None:
            raise self._first
