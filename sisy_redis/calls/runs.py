"""Calls about single runs."""

from collections.abc import Sequence
from typing import Any

from sisy_redis.calls.call import Call, make_call, queue_keys, status_of, text
from sisy_redis.keys import Partition


def cancel(p: Partition, op: str, run_id: str, queue: str, by: str, reason: str) -> Call[tuple[str, str]]:
    """cancelled (it waited), requested (it is live), gone (it has ended), expired; or elsewhere and the queue to name."""
    args = {"op": op, "run": run_id, "by": by, "reason": reason, "queues": queue, "channel": p.cancel_channel}

    def decode(reply: Any) -> tuple[str, str]:
        return status_of(reply), text(reply[2]) if len(reply) > 2 else ""

    return make_call("cancel", decode, p, args, key_rest=queue_keys(p, [queue]))


def requeue(p: Partition, op: str, run_id: str, queue: str) -> Call[str]:
    """requeued, gone, ended, busy, moved or expired."""
    keys = {"waiting_queue": p.waiting_queue(queue)}
    return make_call("requeue", status_of, p, {"op": op, "run": run_id}, keys=keys)


def bury(p: Partition, run_ids: Sequence[str]) -> Call[int]:
    """Forgets dead runs; how many there were."""
    return make_call("bury", lambda reply: int(reply[1]), p, {}, arg_rest=run_ids)


def move(p: Partition, run_id: str, old_queue: str, new_queue: str) -> Call[str]:
    """A waiting run follows its task to another queue: moved or gone."""
    keys = {"from": p.waiting_queue(old_queue), "to": p.waiting_queue(new_queue)}
    return make_call("move", status_of, p, {"run": run_id}, keys=keys)
