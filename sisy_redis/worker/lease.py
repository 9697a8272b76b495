"""Keeps this process's leases: a thread of its own renews them, so that a busy event loop loses nothing, and reaps the dead.

Trust ends early and on a clock that counts suspend: a worker that slept through its lease stops its runs before it sends
anything.
"""

import logging
import threading
from collections.abc import Callable

from sisy_redis import calls, clock
from sisy_redis.errors import SisyError
from sisy_redis.keys import Partition, Space
from sisy_redis.transport import Transport

log = logging.getLogger(__name__)

MAX_REDELIVERIES = 3


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


class LeaseKeeper(threading.Thread):
    """Renews every lease three times as often as needed; calls ``on_lost`` (from this thread) for one that ended."""

    def __init__(self, transport: Transport, space: Space, lease_s: float, on_lost: Callable[[Lease], None]) -> None:
        super().__init__(name="sisy-lease", daemon=True)
        self._transport, self._space = transport, space
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def keep(self, lease: Lease) -> None:
        """Starts to renew a lease."""
        with self._lock:
            self._leases[lease.boot] = lease

    def forget(self, lease: Lease) -> None:
        """Never renews this lease again."""
        with self._lock:
            self._leases.pop(lease.boot, None)

    def stop(self) -> None:
        """Ends the thread; leases are left as they are."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._lease_s / 3):
            with self._lock:
                leases = list(self._leases.values())
            for lease in leases:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        asked_at = clock.boottime()
        if not lease.is_trusted:
            self._lose(lease)
            return
        try:
            (answer,) = self._transport.execute([calls.renew(lease.partition, lease.boot)])
        except SisyError as error:
            log.debug("lease %s could not be renewed: %s", lease.boot, error)
            return
        if answer.is_refused:
            lease.is_refused = True
            self._lose(lease)
            return
        lease.renewed(asked_at)
        for expired in answer.expired:
            self._reap(lease.partition, expired)

    def _lose(self, lease: Lease) -> None:
        self.forget(lease)
        self._on_lost(lease)

    def _reap(self, partition: Partition, expired: calls.Expired) -> None:
        try:
            left = 1
            while left:
                (answer,) = self._transport.execute([calls.reap(partition, expired, MAX_REDELIVERIES)])
                status, taken, left = answer
                if status != "reaped" or not taken:
                    return
                log.warning("worker %s is dead: %d of its attempts were taken back", expired.name, taken)
                self._transport.execute([calls.wake(self._space, 1)])
        except SisyError as error:
            log.debug("worker %s could not be reaped: %s", expired.name, error)
