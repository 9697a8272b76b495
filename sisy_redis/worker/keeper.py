"""Keeps this process's leases: a thread of its own renews them, so that a busy event loop loses nothing, reaps the dead, and
ends what outlived its timeout.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sisy_redis import calls, clock
from sisy_redis.calls import Settlement
from sisy_redis.errors import SisyError
from sisy_redis.keys import Partition, Space
from sisy_redis.transport import Transport
from sisy_redis.worker.deadlines import Deadlines
from sisy_redis.worker.lease import Lease

log = logging.getLogger(__name__)


class LeaseKeeper(threading.Thread):
    """Renews every lease three times as often as needed; calls ``on_lost`` (from this thread) for one that ended.

    With each renewal ``on_live`` hears, from this thread too, which runs and tokens the server has under the lease.
    """

    def __init__(
        self,
        transport: Transport,
        space: Space,
        lease_s: float,
        name: str,
        deadlines: Deadlines,
        on_lost: Callable[[Lease], None],
        on_cancels: Callable[[Sequence[str]], None],
        on_live: Callable[[Lease, Mapping[str, int]], None],
    ) -> None:
        super().__init__(name="sisy-lease", daemon=True)
        self._transport, self._space = transport, space
        self._lease_s, self._name = lease_s, name
        self._deadlines = deadlines
        self._on_lost, self._on_cancels = on_lost, on_cancels
        self._on_live = on_live
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
            self._renew_all(leases)
            self._end_overdue()

    def _renew_all(self, leases: Sequence[Lease]) -> None:
        """All in one round trip: of many partitions, those of a server that hangs must not cost the others their leases."""
        asked_at = clock.boottime()
        trusted = [lease for lease in leases if lease.is_trusted]
        for lease in leases:
            if lease not in trusted:
                self._lose(lease)
        try:
            both = self._transport.exchange(
                [
                    *(calls.renew(lease.partition, lease.boot) for lease in trusted),
                    *(calls.live_runs(lease.partition, lease.boot) for lease in trusted),
                ]
            )
        except SisyError as error:
            both = [error] * 2 * len(trusted)
        answers, live = both[: len(trusted)], both[len(trusted) :]
        for lease, answer in zip(trusted, answers, strict=True):
            if isinstance(answer, Exception):
                log.debug("lease %s could not be renewed: %s", lease.boot, answer)
            elif answer.is_refused:
                lease.is_refused = True
                self._lose(lease)
            else:
                lease.renewed(asked_at)
                if answer.cancels:
                    self._on_cancels(answer.cancels)
        for lease, runs in zip(trusted, live, strict=True):
            if not isinstance(runs, Exception):
                self._on_live(lease, runs)
        for lease, answer in zip(trusted, answers, strict=True):
            if not isinstance(answer, Exception):
                for expired in answer.expired:
                    self.reap(lease.partition, expired)

    def _lose(self, lease: Lease) -> None:
        self.forget(lease)
        self._on_lost(lease)

    def reap(self, partition: Partition, expired: calls.Expired) -> None:
        """Takes back what a boot held whose lease is over, and wakes somebody for it."""
        try:
            while True:
                (answer,) = self._transport.execute([calls.reap(partition, expired)])
                if answer.taken:
                    log.warning("worker %s is dead: %d of its attempts were taken back", expired.name, answer.taken)
                    self._transport.execute([calls.wake(self._space, 1)])
                if not answer.left or not (answer.taken or answer.missing):
                    return
                expired = replace(expired, queues=",".join({*expired.queues.split(","), *answer.missing} - {""}))
        except SisyError as error:
            log.debug("worker %s could not be reaped: %s", expired.name, error)

    def _end_overdue(self) -> None:
        for overdue in self._deadlines.overdue():
            lease, settlement = overdue.lease, overdue.settlement
            try:
                if lease.is_trusted and self._settle(lease, settlement):
                    log.warning("run %s is ended: %s", settlement.run_id, settlement.text)
                self._deadlines.end(settlement.run_id, settlement.token)
            except SisyError as error:
                log.debug("run %s could not be ended: %s", settlement.run_id, error)

    def _settle(self, lease: Lease, settlement: Settlement) -> bool:
        answer = f"elsewhere {settlement.queue}"
        while answer.startswith("elsewhere "):
            settlement = replace(settlement, queue=answer.removeprefix("elsewhere "))
            ((answer,),) = self._transport.execute(
                [calls.settle(lease.partition, lease.boot, self._name, [settlement])]
            )
        return bool(answer == "settled")
