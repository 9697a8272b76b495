"""Every key name, and which partition a task lives in."""

import zlib
from binascii import crc_hqx
from dataclasses import dataclass
from functools import lru_cache

from sisy_redis.signing import Signer

FIXED_KINDS = frozenset(
    ("meta", "workers", "leases", "tasks", "plan", "open", "remaining", "waiting", "last", "paused", "labels")
    + ("held", "cancels", "streak", "skips", "backfills", "progress", "dead", "dead_times", "unroutable", "quarantine")
    + ("history", "reports", "replies", "reply_times")
)


TASK_FACTS = ("open", "remaining", "held", "last", "streak", "skips", "backfills", "paused", "unroutable")
"""Hashes by task id that hold nothing once the task is gone."""
_SLOTS = 16384
_SUFFIXES = tuple(f"-{number}".encode() for number in range(_SLOTS))


@lru_cache(maxsize=64)
def _tags(namespace: str, partitions: int) -> tuple[str, ...]:
    """The hash tag of each partition: partition i lies in the i-th of as many equal ranges of a cluster's slots.

    Plain tags fall where they like (16 of them 4/7/5 on three primaries); so each gets the first suffix that puts it there.
    A range's first and last slot are avoided, as clusters round their borders differently.
    """
    if partitions == 1:
        return (f"{namespace}:0",)
    tags = []
    for index in range(partitions):
        name = f"{namespace}:{index}"
        # Redis hashes with CRC-16/XMODEM, which can be continued from the name's.
        begun = crc_hqx(name.encode(), 0)
        low, high = index * _SLOTS // partitions + 1, (index + 1) * _SLOTS // partitions - 1
        suffix = next((s for s in _SUFFIXES if low <= crc_hqx(s, begun) % _SLOTS < high), b"")
        tags.append(name + suffix.decode())
    return tuple(tags)


@dataclass(frozen=True, slots=True)
class Partition:
    """One hash-tagged slice of a namespace. ``injected_ms`` replaces the server's clock in tests.

    ``signer``: signs the definitions that are saved and checks those that are read.
    """

    namespace: str
    index: int
    injected_ms: int | None = None
    signer: Signer | None = None
    partitions: int = 1

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
        return f"sisy:{{{_tags(self.namespace, self.partitions)[self.index]}}}:{kind}"


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace and how many partitions it has."""

    namespace: str = "sisy"
    partitions: int = 1
    injected_ms: int | None = None
    signer: Signer | None = None

    def partition(self, index: int) -> Partition:
        return Partition(self.namespace, index, self.injected_ms, self.signer, self.partitions)

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
