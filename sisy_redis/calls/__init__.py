"""One function per script: which keys, which arguments, what the reply means. Pure; the transport sends them."""

from sisy_redis.calls.attempts import Claimed, Settlement, Untrusted, claim, note_progress, settle, start
from sisy_redis.calls.call import Call, read, text
from sisy_redis.calls.namespace import maintain, mend, open_namespace, purge, server_time, wake
from sisy_redis.calls.plans import PlanState, Unplannable, extend, plan_state, postpone, readable_plan_state, replan
from sisy_redis.calls.runs import bury, cancel, move, requeue
from sisy_redis.calls.tasks import Save, Saved, backfill, delete, pause, resume, save, skip, trigger, unbackfill
from sisy_redis.calls.workers import Expired, Reaped, Registered, Renewed, leave, live_runs, reap, register, renew

__all__ = [
    "Call",
    "Claimed",
    "Expired",
    "PlanState",
    "Reaped",
    "Registered",
    "Renewed",
    "Save",
    "Saved",
    "Settlement",
    "Unplannable",
    "Untrusted",
    "backfill",
    "bury",
    "cancel",
    "claim",
    "delete",
    "extend",
    "leave",
    "live_runs",
    "maintain",
    "mend",
    "move",
    "note_progress",
    "open_namespace",
    "pause",
    "plan_state",
    "postpone",
    "purge",
    "read",
    "readable_plan_state",
    "reap",
    "register",
    "renew",
    "replan",
    "requeue",
    "resume",
    "save",
    "server_time",
    "settle",
    "skip",
    "start",
    "text",
    "trigger",
    "unbackfill",
    "wake",
]
