"""Every key name, and which partition a task lives in."""

import zlib
from dataclasses import dataclass

from sisy_redis.signing import Signer

FIXED_KINDS = frozenset(
    ("meta", "workers", "leases", "tasks", "plan", "open", "remaining", "waiting", "last", "paused", "labels")
    + ("held", "cancels", "streak", "skips", "backfills", "progress", "dead", "dead_times", "unroutable", "quarantine")
    + ("history", "reports", "replies", "reply_times")
)


TASK_FACTS = ("open", "remaining", "held", "last", "streak", "skips", "backfills", "paused", "unroutable")
"""Hashes by task id that hold nothing once the task is gone."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One hash-tagged slice of a namespace. ``injected_ms`` replaces the server's clock in tests.

    ``signer``: signs the definitions that are saved and checks those that are read.
    """

    namespace: str
    index: int
    injected_ms: int | None = None
    signer: Signer | None = None

    def key(self, kind: str) -> str:
        """The key of one of the fixed columns."""
        if kind not in FIXED_KINDS:
            raise KeyError(kind)
        return self._name(kind)

    def due(self, queue: str) -> str:
        """Tasks of a queue by their next instant."""
        return self._name(f"due:{queue}")

    def waiting_queue(self, queue: str) -> str:
        """Runs of a queue that wait to be claimed, by their time."""
        return self._name(f"waiting:{queue}")

    def live(self, boot: str) -> str:
        """The attempts a worker holds."""
        return self._name(f"live:{boot}")

    @property
    def cancel_channel(self) -> str:
        """Where workers hear of runs that are to end."""
        return self._name("cancel")

    @property
    def now_arg(self) -> str:
        return "" if self.injected_ms is None else str(self.injected_ms)

    def _name(self, kind: str) -> str:
        return f"sisy:{{{self.namespace}:{self.index}}}:{kind}"


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace and how many partitions it has."""

    namespace: str = "sisy"
    partitions: int = 1
    injected_ms: int | None = None
    signer: Signer | None = None

    def partition(self, index: int) -> Partition:
        return Partition(self.namespace, index, self.injected_ms, self.signer)

    def partition_of(self, task_id: str) -> Partition:
        """The partition a task id belongs to, for as long as the namespace exists."""
        return self.partition(zlib.crc32(task_id.encode()) % self.partitions)

    def all_partitions(self) -> list[Partition]:
        return [self.partition(index) for index in range(self.partitions)]

    @property
    def namespace_key(self) -> str:
        return f"sisy:{{{self.namespace}}}:namespace"

    @property
    def wake_key(self) -> str:
        return f"sisy:{{{self.namespace}}}:wake"


def task_id_of(run_id: str) -> str:
    """The task a run belongs to."""
    return run_id.rsplit(":", 2)[0]
