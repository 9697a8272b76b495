"""Calls about tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sisy_redis import codec, planning
from sisy_redis.calls.call import Call, make_call, status_of, text
from sisy_redis.definitions import Definition, Plan, Stored
from sisy_redis.keys import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One task to store. ``base`` is what was loaded (None creates); ``plan`` None keeps the stored one.

    ``is_spare``: the plan counts only where the stored one is exhausted. ``beside``: an instant beside the schedule, "" for
    none, "now" or ms; with a leading "?" only in the place of one that is undecided, which "keep" keeps.
    """

    op: str
    definition: Definition
    base: Stored | None
    plan: Plan | None
    planned_from_ms: int
    is_spare: bool = False
    beside: str = ""
    run_id: str = ""
    token: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """saved, exists, gone, conflict, stale, expired or replan."""

    status: str
    generation: int = 0
    version: int = 0
    is_head: bool = False


def save(p: Partition, saves: Sequence[Save], boot: str = "0") -> Call[list[Saved]]:
    """Creates or changes tasks of one partition."""
    flat: list[Any] = []
    queues: list[str] = []
    for s in saves:
        d, encoded = s.definition, codec.encode(s.definition, p.signer)
        base = s.base.definition if s.base else None
        iterations = str(d.iterations) if base is None else ""
        if base is not None and base.iterations != d.iterations:
            iterations = f"{base.iterations}:{d.iterations}"
        flat += [s.op, d.id, s.base.generation if s.base else "", s.base.version if s.base else ""]
        flat += [d.queue, encoded.policy, d.callable.path, d.label, encoded.body]
        flat += [planning.encode(s.plan) if s.plan else "", s.planned_from_ms]
        flat += [0 if s.plan is None else 2 if s.is_spare else 1, s.beside, iterations, s.run_id, s.token]
        queues += [p.due(d.queue), p.due(base.queue if base else d.queue), p.waiting_queue(d.queue)]

    def decode(reply: Any) -> list[Saved]:
        rows = []
        for row in reply[1:]:
            status = status_of(row)
            rows.append(
                Saved(status, int(row[1]), int(row[2]), int(row[3]) == 1) if status == "saved" else Saved(status)
            )
        return rows

    return make_call("save", decode, p, {}, keys={"live": p.live(boot)}, key_rest=queues, arg_rest=flat)


def delete(p: Partition, op: str, stored: Stored) -> Call[str]:
    """deleted, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation}
    return make_call("delete", status_of, p, args, keys={"due": p.due(d.queue)})


def trigger(p: Partition, op: str, stored: Stored, *, counts: bool) -> Call[tuple[str, str]]:
    """An extra run: its status (triggered, busy, spent, gone, expired, moved) and run id."""

    def decode(reply: Any) -> tuple[str, str]:
        return status_of(reply), text(reply[2]) if len(reply) > 2 else ""

    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "counts": int(counts)}
    keys = {"due": p.due(d.queue), "waiting_queue": p.waiting_queue(d.queue)}
    return make_call("trigger", decode, p, args, keys=keys)


def skip(p: Partition, op: str, stored: Stored, count: int) -> Call[str]:
    """skipping, gone or expired."""
    args = {"op": op, "id": stored.definition.id, "generation": stored.generation, "count": count}
    return make_call("skip", status_of, p, args)


def pause(p: Partition, op: str, stored: Stored, by: str, reason: str, until_ms: int | None = None) -> Call[str]:
    """paused, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "by": by, "reason": reason}
    args["until_ms"] = "-" if until_ms is None else until_ms
    return make_call("pause", status_of, p, args, keys={"due": p.due(d.queue)})


def resume(p: Partition, op: str, stored: Stored) -> Call[str]:
    """resumed, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation}
    keys = {"due": p.due(d.queue), "waiting_queue": p.waiting_queue(d.queue)}
    return make_call("resume", status_of, p, args, keys=keys)


def backfill(p: Partition, op: str, stored: Stored, name: str, max_running: int, total: int, plan: Plan) -> Call[str]:
    """started, busy, gone, moved or expired."""
    d = stored.definition
    args = {"op": op, "id": d.id, "generation": stored.generation, "name": name, "max_running": max_running}
    args |= {"total": total, "segments": planning.encode(Plan(plan.segments))}
    return make_call("backfill", status_of, p, args, keys={"waiting_queue": p.waiting_queue(d.queue)})


def unbackfill(p: Partition, task_id: str, name: str) -> Call[str]:
    """ended or gone."""
    return make_call("unbackfill", status_of, p, {"id": task_id, "name": name})
