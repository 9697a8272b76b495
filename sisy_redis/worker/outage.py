"""Waits for a Redis that went away, with growing pauses and one line in the log for each outage."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenacity import RetryCallState, wait_random_exponential

from sisy_redis import clock
from sisy_redis.errors import RedisUnavailable

log = logging.getLogger(__name__)


class Outage:
    """Whether Redis is away, and since when."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._tries = 0
        self._last_failure = ""
        self._wait = wait_random_exponential(multiplier=0.1, max=2.0)
        self._away: set[int] = set()

    @asynccontextmanager
    async def waits(self) -> AsyncIterator[None]:
        """Around one step: when Redis cannot be reached the step is given up and a pause is made.

        So it is for any other error, which must not end the worker either: it is logged whole, once while it repeats.
        """
        try:
            yield
        except RedisUnavailable as error:
            await self._pause(error)
        except Exception as error:  # noqa: BLE001 - a step of the loop: the edge
            if str(error) != self._last_failure:
                log.exception("a step of the worker failed; it goes on")
            self._last_failure = str(error)
            await self._wait_a_little()

    def lost(self, partition: int, error: RedisUnavailable) -> float:
        """One partition of several cannot be reached; returns how many seconds to leave it alone."""
        self._away.add(partition)
        self._note(error)
        return random.uniform(0.1, 0.5)

    def reached(self, partition: int | None = None) -> None:
        """Redis answered: an outage is over, unless another partition is still away."""
        self._away.discard(-1 if partition is None else partition)
        if self._since is not None and not self._away:
            log.warning("Redis is back after %.1f s", clock.monotonic() - self._since)
            self._since = None
        self._tries, self._last_failure = 0, ""

    async def _pause(self, error: RedisUnavailable) -> None:
        self._note(error)
        await self._wait_a_little()

    def _note(self, error: RedisUnavailable) -> None:
        if self._since is None:
            self._since = clock.monotonic()
            log.error("%s; waiting for it", error)

    async def _wait_a_little(self) -> None:
        self._tries += 1
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = min(self._tries, 10)
        await asyncio.sleep(self._wait(state))
