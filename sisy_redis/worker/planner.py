"""Refills plans that run low and replans tasks whose plan ran out, off the event loop."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from sisy_redis import calls, planning
from sisy_redis.calls import Call, PlanState
from sisy_redis.definitions import Plan
from sisy_redis.errors import SisyError
from sisy_redis.keys import Partition
from sisy_redis.transport import AsyncTransport

log = logging.getLogger(__name__)


def last_ms(plan: Plan) -> int:
    """The last planned instant."""
    last = plan.segments[-1]
    return last.first_ms + last.step_ms * ((last.count or 1) - 1)


def extensions(states: Sequence[PlanState]) -> list[tuple[PlanState, int, Plan]]:
    """The plans that follow the stored ones."""
    found = []
    for state in states:
        end = last_ms(state.plan)
        more = planning.plan(state.stored.definition, end)
        if more.segments or more.complete:
            found.append((state, end, more))
    return found


class Planner:
    """One partition's planning; a task is planned once at a time."""

    def __init__(self, transport: AsyncTransport, partition: Partition) -> None:
        self._transport = transport
        self._partition = partition
        self._busy: set[str] = set()

    async def refill(self, replans: Sequence[PlanState], lows: Sequence[PlanState], now_ms: int) -> bool:
        """Plans ahead for the given tasks. True when a task that had no plan got one."""
        chosen = [s for s in (*replans, *lows) if s.stored.definition.id not in self._busy]
        ids = {s.stored.definition.id for s in chosen}
        self._busy |= ids
        try:
            batch = await asyncio.to_thread(self._calls, [s for s in replans if s in chosen], lows, now_ms)
            answers = await self._transport.execute(batch) if batch else []
            return "planned" in answers
        except SisyError as error:
            log.warning("planning was put off: %s", error)
            return False
        finally:
            self._busy -= ids

    def _calls(self, replans: Sequence[PlanState], lows: Sequence[PlanState], now_ms: int) -> list[Call[Any]]:
        batch: list[Call[Any]] = []
        for state in replans:
            found = planning.replan(state.stored.definition, state.cursor_ms, now_ms)
            batch.append(calls.replan(self._partition, state, found.dropped, found.plan))
        more = extensions(lows)
        if more:
            batch.append(calls.extend(self._partition, more))
        return batch
