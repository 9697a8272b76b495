"""The worker's loop: settle what ended, claim what is due, sleep until something happens."""

import asyncio
import logging
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sisy_redis import calls, clock
from sisy_redis.calls import Claimed, Settlement
from sisy_redis.definitions import Attempt
from sisy_redis.errors import NotAcknowledged, RedisUnavailable, SisyError
from sisy_redis.keys import Space
from sisy_redis.transport import AsyncTransport
from sisy_redis.worker.keeper import LeaseKeeper
from sisy_redis.worker.lane import Ending, Lane, open_lane
from sisy_redis.worker.lease import Lease
from sisy_redis.worker.outage import Outage
from sisy_redis.worker.planner import Planner
from sisy_redis.worker.pools import Pools
from sisy_redis.worker.runner import Runner

log = logging.getLogger(__name__)

_LARGEST_CLAIM = 100
_UNACKNOWLEDGED_PAUSE = 1.0


class Loop:
    """Serves every partition of a namespace with one pool of slots."""

    def __init__(
        self,
        transport: AsyncTransport,
        keeper: LeaseKeeper,
        space: Space,
        *,
        queues: tuple[str, ...],
        slots: int,
        lease_s: float,
        name: str,
        pools: Pools,
    ) -> None:
        self._transport, self._keeper, self._space = transport, keeper, space
        self._queues, self._slots, self._lease_s, self._name = queues, slots, lease_s, name
        self._pools = pools
        self._loop = asyncio.get_running_loop()
        self._something = asyncio.Event()
        self._has_room = asyncio.Event()
        self._outage = Outage()
        self._lanes: list[Lane] = []
        self._planners: dict[int, Planner] = {}
        self._side_work: set[asyncio.Task[None]] = set()
        self._beginning = 0
        self._is_stopping = False
        self._is_burst = False
        self._lost: list[Lease] = []
        self._is_lost: set[int] = set()
        self.runner: Runner

    # --- what others tell the loop -------------------------------------------------------------------------------

    def on_settled(self, lane: Lane, ending: Ending) -> None:
        """An attempt ended; unless its lane was abandoned, its settlement is sent with the next tick."""
        settlement = ending.settlement
        if lane.held.pop(settlement.run_id, None) is not None:
            lane.endings.append(ending)
            if self._is_burst:
                lane.ask_now()
            elif settlement.action == "retry":
                lane.ask_within(settlement.delay_ms / 1000)
        self._something.set()

    def on_cancels(self, run_ids: Sequence[str]) -> None:
        """Somebody asked for the end of these runs."""
        for run_id in run_ids:
            self.runner.ask_to_end(run_id)

    def hear_cancels(self, run_ids: Sequence[str]) -> None:
        """The same, called from the lease keeper's thread."""
        self._loop.call_soon_threadsafe(self.on_cancels, run_ids)

    def on_lost(self, lease: Lease) -> None:
        """A lease ended; called from the lease keeper's thread."""
        self._loop.call_soon_threadsafe(self._note_lost, lease)

    def on_live(self, lease: Lease, runs: Mapping[str, int]) -> None:
        """What the server has under a lease; called from the lease keeper's thread."""
        self._loop.call_soon_threadsafe(self._compare, lease, runs)

    def _compare(self, lease: Lease, runs: Mapping[str, int]) -> None:
        for lane in self._lanes:
            if lane.lease is lease:
                lane.compare(runs)
                if lane.endings:
                    self._something.set()

    def stop(self) -> None:
        """Claims nothing more."""
        self._is_stopping = True
        self._something.set()

    def _note_lost(self, lease: Lease) -> None:
        self._lost.append(lease)
        self._something.set()

    # --- running --------------------------------------------------------------------------------------------------

    async def serve(self, *, burst: bool) -> None:
        """Works until ``stop``, or in a burst until nothing is due or running."""
        self._is_burst = burst
        while len(self._lanes) < self._space.partitions and not self._is_stopping:
            async with self._outage.waits():
                await self._open_lanes()
        listeners = {asyncio.create_task(self._listen()), asyncio.create_task(self._listen_for_cancels())}
        try:
            while not self._is_stopping:
                self._something.clear()
                async with self._outage.waits():
                    await self._replace_lost()
                    is_done = await self._tick()
                    if is_done and burst:
                        return
                await self._sleep()
        finally:
            # A cancellation can be lost where a client's own timeout ends at the same moment: it is repeated.
            while listeners:
                for listener in listeners:
                    listener.cancel()
                _, listeners = await asyncio.wait(listeners, timeout=0.2)

    async def drain(self, timeout_s: float) -> None:
        """Waits for what runs, settles it, and gives up the leases; what is left is for others at once."""
        deadline = clock.monotonic() + timeout_s
        complaint = ""
        while clock.monotonic() < deadline:
            self._something.clear()
            self._give_up_lost()
            for lane in self._lanes:
                try:
                    while lane.endings:
                        await self._settle(lane)
                except SisyError as error:
                    # Another partition's server may be there.
                    self._something.clear()
                    if not complaint:
                        log.warning("could not settle while draining: %s; trying until the drain timeout", error)
                    complaint = str(error)
            if not any(lane.held or lane.endings for lane in self._lanes):
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), min(1.0, max(0.01, deadline - clock.monotonic())))
        for lane in self._lanes:
            await self._leave(lane)

    async def _leave(self, lane: Lane) -> None:
        self._keeper.forget(lane.lease)
        if lane.held:
            log.warning("%d attempts did not end in time and are left to other workers", len(lane.held))
        for run_id in list(lane.held):
            self._pools.cancel(run_id, "its worker stops, and the drain timeout is over")
        try:
            (answer,) = await self._transport.execute([calls.leave(lane.partition, lane.lease.boot)])
        except SisyError as error:
            log.warning("could not leave: %s; the lease runs out by itself", error)
            return
        if answer == "abandoned":
            # Others would find what is left only with their next renewal, a third of a lease from now.
            own = calls.Expired(lane.lease.boot, ",".join(self._queues), self._name)
            await asyncio.to_thread(self._keeper.reap, lane.partition, own)

    def _give_up_lost(self) -> None:
        """While draining, a lost lease ends its runs and is not replaced."""
        self._lost += [lane.lease for lane in self._lanes if not lane.lease.is_trusted]
        for lane in [lane for lane in self._lanes if lane.lease in self._lost]:
            self._abandon(lane)
            self._lanes.remove(lane)
        self._lost.clear()

    async def _open_lanes(self) -> None:
        # Those that were opened before one failed are kept: a boot that is not served would be renewed for nothing.
        for p in self._space.all_partitions()[len(self._planners) :]:
            opened = await open_lane(
                self._transport, self._keeper, self._space, p, self._lease_s, self._queues, self._name
            )
            self._lanes.append(opened)
            self._planners[p.index] = Planner(self._transport, p)
        self._outage.reached()

    async def _replace_lost(self) -> None:
        while self._lost:
            lease = self._lost.pop(0)
            for lane in self._lanes:
                if lane.lease is lease:
                    self._abandon(lane)
                    self._is_lost.add(lane.partition.index)
        now = clock.monotonic()
        for i, lane in enumerate(self._lanes):
            if lane.partition.index in self._is_lost and lane.rest_until <= now:
                try:
                    self._lanes[i] = await open_lane(
                        self._transport,
                        self._keeper,
                        self._space,
                        lane.partition,
                        self._lease_s,
                        self._queues,
                        self._name,
                    )
                except RedisUnavailable as error:
                    self._rest(lane, error)
                    continue
                self._is_lost.discard(lane.partition.index)

    def _abandon(self, lane: Lane) -> None:
        if lane.held:
            log.warning("lost the lease of %d attempts: they are cancelled and left to other workers", len(lane.held))
        runs = list(lane.held)
        lane.held.clear()
        lane.endings.clear()
        for run_id in runs:
            self._pools.cancel(run_id, "its worker lost the lease: others have the run now")

    # --- one tick -------------------------------------------------------------------------------------------------

    @property
    def _free(self) -> int:
        return self._slots - self._pools.active - self._beginning

    async def _tick(self) -> bool:
        """Settles and claims in every lane that has a reason to. True when nothing is due, running or unsettled."""
        is_done = True
        for lane in self._lanes:
            if lane.partition.index in self._is_lost or lane.rest_until > clock.monotonic():
                is_done = False
                continue
            if not lane.lease.is_trusted:
                self.on_lost(lane.lease)
                is_done = False
                continue
            batch = lane.take_endings()
            wants = lane.claim is not None or (self._free > 0 and lane.ask_at <= clock.monotonic())
            if not batch and not wants:
                is_done = False
                continue
            try:
                answer = await self._exchange(lane, batch, wants)
            except RedisUnavailable as error:
                self._rest(lane, error)
                is_done = False
                continue
            is_done = is_done and self._is_idle(lane, answer)
        return is_done

    def _rest(self, lane: Lane, error: RedisUnavailable) -> None:
        """Leaves a partition alone for a moment; the only one pauses the loop."""
        if len(self._lanes) == 1:
            raise error
        # In a cluster the other partitions may be well.
        lane.rest_until = clock.monotonic() + self._outage.lost(lane.partition.index, error)

    def _is_idle(self, lane: Lane, answer: Claimed | None) -> bool:
        if answer is None or answer.status != "ok" or answer.has_backlog or answer.attempts or answer.replans:
            return False
        return not lane.held and not lane.endings and not self._side_work

    async def _exchange(self, lane: Lane, batch: list[Ending], wants: bool) -> Claimed | None:
        sent: list[calls.Call[Any]] = []
        if batch:
            sent.append(self._settle_call(lane, batch))
        if wants:
            slots = min(_LARGEST_CLAIM, max(1, self._free))
            sent.append(lane.next_claim(slots, self._queues, list(self.runner.refused)))
        answers = await self._transport.exchange(sent)
        if batch and not isinstance(answers[0], Exception):
            lane.settled(answers[0])
        unacknowledged = answers[-1] if isinstance(answers[-1], NotAcknowledged) else None
        for answer in answers:
            if isinstance(answer, Exception) and answer is not unacknowledged:
                raise answer
        self._outage.reached(lane.partition.index)
        if unacknowledged is not None:
            return self._claimed(lane, unacknowledged.answer, unacknowledged)
        return self._claimed(lane, answers[-1]) if wants else None

    async def _settle(self, lane: Lane) -> None:
        (answer,) = await self._transport.execute([self._settle_call(lane, lane.take_endings())])
        lane.settled(answer)

    def _settle_call(self, lane: Lane, batch: list[Ending]) -> calls.Call[list[str]]:
        call = calls.settle(lane.partition, lane.lease.boot, self._name, [ending.settlement for ending in batch])
        for ending in batch:
            ending.sends += 1
        return call

    def _claimed(self, lane: Lane, answer: Claimed, shortfall: NotAcknowledged | None = None) -> Claimed:
        if answer.status != "ok":
            lane.claim = None
            lane.lease.is_refused = True
            self._keeper.forget(lane.lease)
            self._note_lost(lane.lease)
            return answer
        lane.claimed(answer)
        for run_id, token, queue in answer.unreadable:
            reason = "- its record cannot be read by this release"
            lane.endings.append(Ending(Settlement(run_id, token, "unroutable", queue, text=reason)))
        for refused in answer.untrusted:
            self.runner.refuse_record(refused.mark, refused.reason)
            text = f"- {refused.reason}"
            lane.endings.append(
                Ending(Settlement(refused.run_id, refused.token, "unroutable", refused.queue, text=text))
            )
        if shortfall is None:
            self._begin_all(lane, answer)
        elif answer.attempts:
            # A failover could give them out once more: they are released, not started.
            log.warning("%d claimed attempts are given back unstarted: %s", len(answer.attempts), shortfall)
            lane.give_back(answer, _UNACKNOWLEDGED_PAUSE)
        if answer.watch == 2:
            self._start(self._wake_another())
        if answer.replans or answer.lows or answer.unplannable:
            self._start(self._refill(lane, answer))
        return answer

    def _begin_all(self, lane: Lane, answer: Claimed) -> None:
        for attempt in answer.attempts:
            if attempt.run_id in answer.cancels:
                self.on_settled(lane, Ending(Settlement(attempt.run_id, attempt.token, "cancelled", attempt.queue)))
            else:
                self._begin(lane, attempt, answer.now_ms)
        self.on_cancels(answer.cancels)

    def _begin(self, lane: Lane, attempt: Attempt, now_ms: int) -> None:
        if attempt.losses == 0 and self.runner.is_known(attempt):
            # The answer may have come after the lease ended, and then the run is another's already.
            if lane.lease.is_trusted:
                self.runner.begin(lane, attempt, now_ms)
            return
        self._beginning += 1
        self._start(self._prepare(lane, attempt, now_ms))

    async def _prepare(self, lane: Lane, attempt: Attempt, now_ms: int) -> None:
        """Begins an attempt that needs more than its slot: an import, or the mark that a redelivered one began."""
        try:
            is_known = self.runner.is_known(attempt) or await self.runner.find(lane, attempt)
            if is_known and attempt.losses:
                call = calls.start(lane.partition, lane.lease.boot, attempt.run_id, attempt.token)
                (is_ours,) = await self._transport.execute([call])
                if not is_ours:
                    lane.held.pop(attempt.run_id, None)
                    return
            if is_known and lane.lease.is_trusted:
                self.runner.begin(lane, attempt, now_ms)
        except Exception as error:  # noqa: BLE001 - an attempt that is held but never begun would be open for ever
            log.warning("run %s is given back: %s", attempt.run_id, error, exc_info=not isinstance(error, SisyError))
            self.on_settled(lane, Ending(Settlement(attempt.run_id, attempt.token, "release", attempt.queue)))
        finally:
            self._beginning -= 1
            self._something.set()

    async def _wake_another(self) -> None:
        try:
            await self._transport.execute([calls.wake(self._space, 1)])
        except SisyError as error:
            log.debug("nobody could be woken: %s", error)

    async def _refill(self, lane: Lane, answer: Claimed) -> None:
        if await self._planners[lane.partition.index].refill(answer):
            lane.ask_now()
        self._something.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._side_work.add(task)
        task.add_done_callback(self._side_work.discard)

    # --- waiting --------------------------------------------------------------------------------------------------

    async def _sleep(self) -> None:
        if self._free > 0:
            self._has_room.set()
            next_at = min((lane.next_at for lane in self._lanes), default=0.0)
        else:
            self._has_room.clear()
            ending = [lane.next_at for lane in self._lanes if lane.endings]
            next_at = min(ending, default=clock.monotonic() + 60.0)
        due = next_at - clock.monotonic()
        if due <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._something.wait(), due)

    async def _listen(self) -> None:
        """Hears the hints of producers and of other workers while there is room for more."""
        while True:
            await self._has_room.wait()
            try:
                if await self._transport.wait_for_wake(self._space, random.uniform(3.0, 4.0)):
                    if self._free <= 0:
                        await self._wake_another()
                    for lane in self._lanes:
                        lane.ask_now()
                    self._something.set()
            except SisyError:
                # The loop tells of the outage.
                await asyncio.sleep(1.0)

    async def _listen_for_cancels(self) -> None:
        """Hears at once of runs that are to end; what is missed comes with the next renewal of the lease."""
        channels = [partition.cancel_channel for partition in self._space.all_partitions()]
        while True:
            try:
                async for run_id in self._transport.messages(channels):
                    self.on_cancels([run_id])
            except SisyError:
                await asyncio.sleep(1.0)
