"""Calls that refill plans, and the plans that a claim answers with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sisy_redis import codec, planning
from sisy_redis.calls.call import Call, make_call, status_of, text
from sisy_redis.definitions import Dropped, Plan, Stored
from sisy_redis.keys import Partition
from sisy_redis.signing import Signer


@dataclass(frozen=True, slots=True)
class PlanState:
    """A task's stored plan: what is planned, how far it has been decided, and what was admitted last."""

    stored: Stored
    version: int
    cursor_ms: int
    admitted_ms: int | None
    plan: Plan
    column: bytes = b""


@dataclass(frozen=True, slots=True)
class Unplannable:
    """A task whose record or plan this release cannot read; ``column`` is its plan's."""

    task_id: str
    column: bytes
    queue: str
    reason: str
    path: str = "-"


def plan_state(stored: Stored, column: bytes) -> PlanState:
    """A task's ``plan`` column."""
    _generation, version, cursor, admitted, *rest = text(column).split(" ")
    last = None if admitted == "-" else int(cursor if admitted == "=" else admitted)
    return PlanState(stored, int(version), int(cursor), last, planning.decode(rest[0] if rest else ""), column)


def readable_plan_state(stored: Stored, column: bytes | None) -> PlanState | None:
    """The same, None where there is none or it cannot be read."""
    try:
        return plan_state(stored, column) if column else None
    except ValueError:
        return None


def decode_plan_states(rows: Any, signer: Signer | None) -> tuple[tuple[PlanState, ...], tuple[Unplannable, ...]]:
    """The plans in a claim's answer, and those this release cannot read."""
    states, lost = [], []
    for task_id, plan, record, queue in rows:
        try:
            stored = codec.decode(text(task_id), record, signer)
            distrust = codec.distrust(stored)
            if distrust:
                lost.append(Unplannable(text(task_id), plan, text(queue), f"its record {distrust}"))
                continue
            states.append(plan_state(stored, plan))
        except (codec.CorruptRecord, ValueError) as error:
            lost.append(Unplannable(text(task_id), plan, text(queue), str(error)))
    return tuple(states), tuple(lost)


def extend(p: Partition, extensions: Sequence[tuple[PlanState, int, Plan]]) -> Call[list[str]]:
    """Appends plans behind the planned end (ms) they were computed from."""
    flat: list[Any] = []
    for state, plan_end, plan in extensions:
        flat += [state.stored.definition.id, state.stored.generation, state.version, plan_end, planning.encode(plan)]
    return make_call("extend", lambda reply: [text(row) for row in reply], p, {}, arg_rest=flat)


def replan(p: Partition, state: PlanState, dropped: Sequence[Dropped], plan: Plan) -> Call[str]:
    """The next plan of a task that ran out of it, and the ranges that become no runs."""
    flat: list[Any] = []
    for row in dropped:
        flat += [str(row.reason), row.count or 0, row.first_ms, row.last_ms]
    definition = state.stored.definition
    return make_call(
        "replan",
        status_of,
        p,
        {
            "id": definition.id,
            "generation": state.stored.generation,
            "version": state.version,
            "cursor": state.cursor_ms,
            "segments": planning.encode(plan),
        },
        keys={"due": p.due(definition.queue)},
        arg_rest=flat,
    )


def postpone(p: Partition, op: str, what: Unplannable) -> Call[str]:
    """postponed, moved or expired."""
    args = {"op": op, "id": what.task_id, "column": what.column, "path": what.path, "reason": what.reason}
    return make_call("postpone", status_of, p, args, keys={"due": p.due(what.queue)})
