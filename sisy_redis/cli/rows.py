"""What the reads print of each thing, ready for JSON: instants as ISO 8601 in UTC, None where there is nothing."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sisy_redis import clock
from sisy_redis.queries import HistoryEntry, WorkerState
from sisy_redis.views import TaskView

TASK_COLUMNS = ("id", "label", "schedule", "tz", "next_run", "state", "iterations_left", "last_outcome")
HISTORY_COLUMNS = ("at", "task_id", "kind", "what", "nominal", "attempt", "count", "duration_ms", "worker", "error")
WORKER_COLUMNS = ("name", "state", "partition", "queues", "holds", "registered", "lease_until")


def task(view: TaskView) -> dict[str, Any]:
    """A task."""
    return {
        "id": view.id,
        "label": view.label,
        "path": view.path,
        "schedule": view.schedule,
        "tz": view.tz,
        "queue": view.queue,
        "state": _state(view),
        "next_run": _iso(view.next_run),
        "enabled": view.enabled,
        "running": view.running,
        "allow_overlap": view.allow_overlap,
        "iterations": view.iterations,
        "iterations_left": view.iterations_left,
        "last_outcome": view.last.outcome if view.last else None,
        "last_nominal": _instant(view.last.nominal_ms) if view.last else None,
        "paused_by": view.pause.by if view.pause else None,
        "pause_reason": view.pause.reason if view.pause else None,
        "unroutable": view.unroutable,
        "created_at": _iso(view.created_at),
        "modified_at": _iso(view.modified_at),
        "userdata": dict(view.userdata),
    }


def history(entry: HistoryEntry) -> dict[str, Any]:
    """A line of the ledger."""
    return asdict(entry) | {
        "at": _instant(entry.at_ms),
        "nominal": None if entry.nominal_ms is None else _instant(entry.nominal_ms),
        "error": entry.error or None,
    }


def worker(state: WorkerState) -> dict[str, Any]:
    """A registered worker."""
    return asdict(state) | {
        "queues": ",".join(state.queues),
        "registered": _instant(state.registered_ms),
        "lease_until": _instant(state.lease_until_ms),
    }


def _state(view: TaskView) -> str:
    if view.pause:
        return f"paused by {view.pause.by}" if view.pause.by else "paused"
    if not view.enabled:
        return "disabled"
    if view.unroutable:
        return "unroutable"
    return "running" if view.running else "waiting"


def _instant(ms: int) -> str:
    return clock.from_ms(ms).isoformat()


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
