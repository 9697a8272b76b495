"""What a worker knows of one partition: its boot there, the claim it last sent, and when to ask again."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sisy_redis import calls, clock, operations
from sisy_redis.calls import Call, Claimed, Settlement
from sisy_redis.definitions import Attempt
from sisy_redis.errors import SisyError
from sisy_redis.keys import Partition, Space
from sisy_redis.transport import AsyncTransport
from sisy_redis.worker.keeper import LeaseKeeper
from sisy_redis.worker.lease import Lease

log = logging.getLogger(__name__)

_MOST_SETTLEMENTS = 100
_LONGEST_POLL = 10.0
_MOST_REMEMBERED = 200


@dataclass(slots=True)
class Ending:
    """A settlement to send, and what to do once Redis accepted it."""

    settlement: Settlement
    then: Callable[[], None] | None = None
    sends: int = 0


@dataclass
class Lane:
    """One partition as this worker serves it. ``ask_at``: when to claim next, on the monotonic clock.

    ``asked``: the soonest that was asked for since the claim was made, whose answer may be older than the reason to ask.
    ``rest_until``: until when nothing is sent, because its server could not be reached.
    """

    partition: Partition
    lease: Lease
    queues: tuple[str, ...]
    seq: int = 0
    ask_at: float = 0.0
    asked: float = math.inf
    rest_until: float = 0.0
    held: dict[str, Attempt] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    claim: Call[Claimed] | None = None
    idle_since: float | None = None
    remembered: dict[tuple[str, int], Settlement] = field(default_factory=dict)
    unknown: set[tuple[str, int]] = field(default_factory=set)

    def next_claim(self, slots: int, queues: tuple[str, ...], refused: list[str]) -> Call[Claimed]:
        """The claim to send: the same one again while its answer has not arrived."""
        if self.claim is None:
            self.asked = math.inf
            self.claim = calls.claim(self.partition, self.lease.boot, self.seq + 1, slots, queues, refused)
        return self.claim

    def take_endings(self) -> list[Ending]:
        """What waits to be settled, at most one script's worth."""
        return self.endings[:_MOST_SETTLEMENTS]

    def settled(self, answers: Sequence[str]) -> None:
        """The oldest endings were answered."""
        answered, self.endings = self.endings[: len(answers)], self.endings[len(answers) :]
        for ending, answer in zip(answered, answers, strict=True):
            status, _, queue = answer.partition(" ")
            if status == "elsewhere":
                ending.settlement = replace(ending.settlement, queue=queue)
                self.endings.append(ending)
                continue
            self._remember(ending.settlement)
            # One whose first reply was lost is stale when it is repeated, though it was accepted.
            if status == "settled" or (ending.sends > 1 and self.lease.is_trusted):
                if ending.then is not None:
                    ending.then()
            else:
                log.info("run %s was ended already, or belongs to another worker now", ending.settlement.run_id)

    def _remember(self, settlement: Settlement) -> None:
        self.remembered[settlement.run_id, settlement.token] = settlement
        while len(self.remembered) > _MOST_REMEMBERED:
            self.remembered.pop(next(iter(self.remembered)))

    def compare(self, live: Mapping[str, int]) -> None:
        """Ends what the server has under this boot though nobody here holds it.

        A failover may lose a settlement that was acknowledged. Nobody would end that run while this worker lives: so it is
        settled again as it ended, or released where that is forgotten. Two looks in a row have to agree, as one may be older
        than what this worker knows.
        """
        ending = {each.settlement.run_id for each in self.endings}
        strangers = {(run, token) for run, token in live.items() if run not in self.held and run not in ending}
        if self.claim is not None:
            strangers.clear()
        for run, token in strangers & self.unknown:
            log.warning("run %s is not held here, though Redis says so: it is ended again", run)
            queue = self.queues[0]
            settlement = self.remembered.get((run, token)) or Settlement(run, token, "release", queue)
            self.endings.append(Ending(settlement))
        self.unknown = strangers - self.unknown

    def claimed(self, answer: Claimed) -> None:
        """The claim was answered: decides when to ask again."""
        self.claim = None
        self.seq += 1
        for attempt in answer.attempts:
            self.held[attempt.run_id] = attempt
        now = clock.monotonic()
        if answer.has_backlog:
            self.ask_at, self.idle_since = now, None
            return
        until_due = _LONGEST_POLL if answer.next_due_ms is None else answer.next_due_ms / 1000
        if answer.attempts:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        if answer.watch == 1:
            self.ask_at = min(self.asked, now + min(until_due, _LONGEST_POLL))
        else:
            idle = now - (self.idle_since or now)
            poll = min(_LONGEST_POLL, max(1.0, idle / 20)) * random.uniform(0.75, 1.25)
            self.ask_at = min(self.asked, now + poll)

    @property
    def next_at(self) -> float:
        """When there is something to do here, as far as this worker knows."""
        return max(self.rest_until, 0.0 if self.endings else self.ask_at)

    def give_back(self, answer: Claimed, seconds: float) -> None:
        """Releases what was claimed, and asks again after ``seconds``."""
        for attempt in answer.attempts:
            self.held.pop(attempt.run_id, None)
            release = Settlement(attempt.run_id, attempt.token, "release", attempt.queue)
            self.endings.append(Ending(release))
        self.ask_at = clock.monotonic() + seconds

    def ask_within(self, seconds: float) -> None:
        """Something this worker gave back is due then, and nobody else may be awake for it."""
        self.asked = min(self.asked, clock.monotonic() + seconds)
        self.ask_at = min(self.ask_at, self.asked)

    def ask_now(self) -> None:
        """Something may be due."""
        self.ask_at = self.asked = 0.0


async def open_lane(
    transport: AsyncTransport,
    keeper: LeaseKeeper,
    space: Space,
    partition: Partition,
    lease_s: float,
    queues: tuple[str, ...],
    name: str,
) -> Lane:
    """Registers in a partition.

    Raises RedisUnavailable as the transport does.
    """
    for _ in range(3):
        (now_ms,) = await transport.execute([calls.server_time(space)])
        asked_at = clock.boottime()
        op = operations.new_op(now_ms)
        (answer,) = await transport.execute([calls.register(partition, op, int(lease_s * 1000), queues, name)])
        if answer.boot is not None:
            lease = Lease(partition, answer.boot, lease_s, asked_at)
            keeper.keep(lease)
            return Lane(partition, lease, queues)
        await asyncio.sleep(0.1)
    raise SisyError("registration took longer than ten minutes to reach Redis; is the connection usable?")
