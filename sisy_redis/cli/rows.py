"""What the reads print of each thing, ready for JSON: instants as ISO 8601 in UTC, None where there is nothing."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sisy_redis import clock
from sisy_redis.doctor import Finding
from sisy_redis.inspection import DeadRun, OpenRun
from sisy_redis.queries import HistoryEntry, WorkerState
from sisy_redis.views import TaskView

TASK_COLUMNS = ("id", "label", "schedule", "tz", "next_run", "state", "iterations_left", "last_outcome")
HISTORY_COLUMNS = ("at", "task_id", "kind", "what", "nominal", "attempt", "count", "duration_ms", "worker", "error")
RUN_COLUMNS = ("run", "state", "worker", "attempt", "nominal", "at", "progress")
DEAD_COLUMNS = ("run", "task", "outcome", "attempt", "nominal", "since")
FINDING_COLUMNS = ("partition", "what", "id", "detail", "mended")
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
        "overlap": view.overlap,
        "allow_overlap": view.allow_overlap,
        "iterations": view.iterations,
        "iterations_left": view.iterations_left,
        "last_outcome": view.last.outcome if view.last else None,
        "last_nominal": _instant(view.last.nominal_ms) if view.last else None,
        "paused_by": view.pause.by if view.pause else None,
        "pause_reason": view.pause.reason if view.pause else None,
        "paused_until": _instant(view.pause.until_ms) if view.pause and view.pause.until_ms is not None else None,
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
        "result": entry.result or None,
    }


def open_run(run: OpenRun) -> dict[str, Any]:
    """An open run."""
    state = "waiting" if run.worker is None else "running"
    return {
        "run": run.run_id,
        "state": f"{state}, to end" if run.is_cancelled else state,
        "worker": run.worker,
        "attempt": run.attempt,
        "nominal": _instant(run.nominal_ms),
        "at": None if run.at_ms is None else _instant(run.at_ms),
        "progress": run.progress or None,
    }


def dead_run(run: DeadRun) -> dict[str, Any]:
    """A dead run."""
    return {
        "run": run.run_id,
        "task": run.task_id,
        "outcome": run.outcome,
        "attempt": run.attempt,
        "nominal": _instant(run.nominal_ms),
        "since": _instant(run.since_ms),
    }


def finding(one: Finding) -> dict[str, Any]:
    """Something that cannot be."""
    return asdict(one) | {"mended": one.is_mended}


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
