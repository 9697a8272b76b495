"""How long a worker may believe in its lease.

Trust ends early and on a clock that counts suspend: a worker that slept through its lease stops its runs before it sends
anything.
"""

from sisy_redis import clock
from sisy_redis.keys import Partition


class Lease:
    """One boot in one partition, and until when this process may believe in it."""

    def __init__(self, partition: Partition, boot: str, lease_s: float, asked_at: float) -> None:
        self.partition = partition
        self.boot = boot
        self._lease_s = lease_s
        self._trusted_until = asked_at + self._trusted_s
        self.is_refused = False

    @property
    def _trusted_s(self) -> float:
        return self._lease_s - min(1.0, self._lease_s / 5)

    @property
    def is_trusted(self) -> bool:
        """The server has not given this boot's attempts to others, as far as this process can know."""
        return not self.is_refused and clock.boottime() < self._trusted_until

    def renewed(self, asked_at: float) -> None:
        """The server agreed to a request that was sent at ``asked_at``."""
        self._trusted_until = max(self._trusted_until, asked_at + self._trusted_s)
