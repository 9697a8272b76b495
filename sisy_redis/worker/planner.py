"""Refills plans that run low and replans tasks whose plan ran out, off the event loop."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from sisy_redis import calls, operations, planning
from sisy_redis.calls import Call, Claimed, PlanState, Unplannable
from sisy_redis.definitions import Plan
from sisy_redis.errors import SisyError
from sisy_redis.keys import Partition
from sisy_redis.transport import AsyncTransport

log = logging.getLogger(__name__)


def last_ms(plan: Plan) -> int:
    """The last planned instant."""
    last = plan.segments[-1]
    return last.first_ms + last.step_ms * ((last.count or 1) - 1)


class Planner:
    """One partition's planning; a task is planned once at a time."""

    def __init__(self, transport: AsyncTransport, partition: Partition) -> None:
        self._transport = transport
        self._partition = partition
        self._busy: set[str] = set()

    async def refill(self, answer: Claimed) -> bool:
        """Plans ahead for what a claim asked for. True when a task that had no plan got one.

        A task that cannot be planned here (its zone is not installed, its record is of a newer release) holds up no other: it
        is offered to other workers, and reported as unroutable.
        """
        lows = [s for s in answer.lows if s.stored.definition.id not in self._busy]
        replans = [s for s in answer.replans if s.stored.definition.id not in self._busy]
        ids = {s.stored.definition.id for s in (*lows, *replans)}
        self._busy |= ids
        try:
            batch = await asyncio.to_thread(self._calls, replans, lows, answer)
            answers = await self._transport.execute(batch) if batch else []
            return "planned" in answers
        except SisyError as error:
            log.warning("planning was put off: %s", error)
            return False
        finally:
            self._busy -= ids

    def _calls(self, replans: Sequence[PlanState], lows: Sequence[PlanState], answer: Claimed) -> list[Call[Any]]:
        batch: list[Call[Any]] = []
        lost = list(answer.unplannable)
        for state in replans:
            try:
                d = state.stored.definition
                found = planning.replan(d, state.cursor_ms, answer.now_ms, state.admitted_ms)
                batch.append(calls.replan(self._partition, state, found.dropped, found.plan))
            except Exception as error:  # noqa: BLE001 - one task must not hold up the others: part of the loop's edge
                lost.append(Unplannable(d.id, state.column, d.queue, f"cannot be planned: {error}", d.callable.path))
        for what in lost:
            log.error("task %s is left for other workers: %s", what.task_id, what.reason)
            batch.append(calls.postpone(self._partition, operations.new_op(answer.now_ms), what))
        more = self._extensions(lows)
        if more:
            batch.append(calls.extend(self._partition, more))
        return batch

    def _extensions(self, lows: Sequence[PlanState]) -> list[tuple[PlanState, int, Plan]]:
        """The plans that follow the stored ones."""
        found = []
        for state in lows:
            end = last_ms(state.plan)
            try:
                more = planning.plan(state.stored.definition, end)
            except Exception as error:  # noqa: BLE001 - as above; it is reported when its plan has run out
                log.warning("task %s cannot be planned ahead here: %s", state.stored.definition.id, error)
                continue
            if more.segments or more.complete:
                found.append((state, end, more))
        return found
