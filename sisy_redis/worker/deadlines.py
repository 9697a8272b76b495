"""When attempts with a timeout must have ended, whatever the event loop does: read by the lease thread.

A callable that blocks the loop keeps the loop's own timers from ending anything, while the lease thread goes on renewing.
A thread that cannot run either renews no lease, and the attempts are reaped. Instants are this process's own clock, because
the server's may be stepped.
"""

import threading
from dataclasses import dataclass

from sisy_redis import clock
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, Outcome
from sisy_redis.worker.ending import Ended
from sisy_redis.worker.lease import Lease
from sisy_redis.worker.pools import LONGEST_CUT_S
from sisy_redis.worker.settling import settlement_of


@dataclass(frozen=True, slots=True)
class Overdue:
    """An attempt that nobody ended in time, and what ends it."""

    lease: Lease
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class _Limit:
    lease: Lease
    attempt: Attempt
    began: float
    started_ms: int
    ends: float


class Deadlines:
    """The attempts of this process that have a timeout. Used by the event loop and by the lease thread."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, int], _Limit] = {}
        self._lock = threading.Lock()

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        """The attempt begins now."""
        timeout_ms = attempt.stored.definition.timeout_ms
        if timeout_ms:
            now = clock.monotonic()
            ends = now + timeout_ms / 1000 + LONGEST_CUT_S
            with self._lock:
                self._limits[attempt.run_id, attempt.token] = _Limit(lease, attempt, now, clock.wall_ms(), ends)

    def end(self, run_id: str, token: int) -> None:
        """The attempt was ended, or is no longer this process's."""
        with self._lock:
            self._limits.pop((run_id, token), None)

    def overdue(self) -> list[Overdue]:
        """The attempts whose time has passed."""
        now = clock.monotonic()
        with self._lock:
            late = [limit for limit in self._limits.values() if limit.ends < now]
        return [Overdue(limit.lease, _settlement(limit, now - limit.began)) for limit in late]


def _settlement(limit: _Limit, seconds: float) -> Settlement:
    error = f"it ran longer than its timeout and blocked the worker's event loop; it was ended after {seconds:.3f} s"
    return settlement_of(limit.attempt, Ended(Outcome.TIMEOUT, error, limit.started_ms, seconds))
