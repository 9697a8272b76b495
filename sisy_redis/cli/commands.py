"""What each command does."""

import argparse
import getpass
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sisy_redis import output, planning, settings
from sisy_redis.cli import rows
from sisy_redis.cli.connecting import pages, scheduler
from sisy_redis.errors import DoesNotExist, TaskError, UserdataError


def run(chosen: argparse.Namespace) -> int:
    """Runs the chosen command."""
    return _COMMANDS[chosen.command](chosen)


def _add(chosen: argparse.Namespace) -> int:
    fields = _fields(chosen)
    with scheduler(chosen) as opened:
        view = opened.save(chosen.callable, **fields)
    output.show(rows.task(view), as_json=chosen.json)
    return 0


def _fields(chosen: argparse.Namespace) -> dict[str, Any]:
    given = vars(chosen)
    fields = {name: given[name] for name in ("id", "label", "tz", "queue", "iterations", "timeout")}
    fields["schedule"] = given.get("schedule")
    fields["every"] = None if chosen.every is None else timedelta(seconds=chosen.every)
    fields["userdata"] = None if chosen.userdata is None else _json_of(chosen.userdata)
    fields["start_running"] = _instant("--start", chosen.start)
    fields["end_running"] = _instant("--end", chosen.end)
    if chosen.retry is not None:
        fields["retry"] = (chosen.retry, chosen.retry_wait or 0)
    elif chosen.retry_wait is not None:
        raise TaskError("--retry-wait needs --retry")
    found = {name: value for name, value in fields.items() if value is not None}
    return found | {"allow_overlap": not chosen.no_overlap, "enabled": not chosen.disabled}


def _json_of(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise UserdataError(f"--userdata is not JSON: {error}") from error


def _instant(option: str, raw: str | None) -> datetime | None:
    try:
        return None if raw is None else datetime.fromisoformat(raw)
    except ValueError as error:
        raise TaskError(f"{option} {raw!r} is no instant; write it like 2030-01-31T08:00:00+01:00") from error


def _list(chosen: argparse.Namespace) -> int:
    found = pages(chosen, chosen.label, chosen.limit)
    output.table(([rows.task(view) for view in page] for page in found), rows.TASK_COLUMNS, as_json=chosen.json)
    return 0


def _show(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        view = opened.get(chosen.id)
        upcoming = [instant.isoformat() for instant in opened.upcoming(view, 5)]
    output.show(rows.task(view) | {"upcoming": upcoming}, as_json=chosen.json)
    return 0


def _next(chosen: argparse.Namespace) -> int:
    zone = chosen.tz or settings.current().time_zone
    instants = [i.isoformat() for i in planning.upcoming(chosen.expression, zone, n=chosen.n)]
    print(json.dumps(instants) if chosen.json else "\n".join(instants))
    return 0


def _pause(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        until = _instant("--until", chosen.until)
        opened.pause(chosen.id, until=until, by=chosen.by or _user(), reason=chosen.reason)
    print(f"paused {chosen.id}")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container whose user id has no name.
        return ""


def _resume(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        opened.resume(chosen.id)
    print(f"resumed {chosen.id}")
    return 0


def _delete(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        if not opened.delete(chosen.id):
            raise DoesNotExist(f"no task has the id {chosen.id!r}")
    print(f"deleted {chosen.id}")
    return 0


def _trigger(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        run_id = opened.trigger(chosen.id)
    print(json.dumps({"run": run_id}) if chosen.json else f"triggered {run_id}")
    return 0


def _skip(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        opened.skip_next(chosen.id, chosen.n)
    print(f"skipping the next {chosen.n} of {chosen.id}")
    return 0


def _maintenance(chosen: argparse.Namespace) -> int:
    until = _instant("--until", chosen.until)
    with scheduler(chosen) as opened:
        if until is None:
            opened.end_maintenance()
        else:
            start = _instant("--start", chosen.start)
            opened.maintenance(until, start=start, by=chosen.by or _user(), reason=chosen.reason)
    print("no maintenance" if until is None else f"maintenance until {until.isoformat()}")
    return 0


def _runs(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        found = opened.runs(opened.get(chosen.id))
    output.table([[rows.open_run(run) for run in found]], rows.RUN_COLUMNS, as_json=chosen.json)
    return 0


def _cancel(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        status = opened.cancel(chosen.run, by=chosen.by or _user(), reason=chosen.reason)
    if status == "gone":
        raise DoesNotExist(f"no open run has the id {chosen.run!r}")
    print(json.dumps({"run": chosen.run, "status": status}) if chosen.json else f"{status} {chosen.run}")
    return 0


def _explain(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        said = opened.explain(chosen.id, _instant("--at", chosen.at))
    if chosen.json:
        print(json.dumps({"task": said.task_id, "verdict": said.verdict, "reasons": said.reasons}))
    else:
        output.lines([f"{said.task_id}: {said.verdict}", *(f"  {reason}" for reason in said.reasons)])
    return 4 if said.verdict == "unknown" else 0


def _backfill(chosen: argparse.Namespace) -> int:
    start, end = _instant("--start", chosen.start), _instant("--end", chosen.end)
    if (start is None) != (end is None):
        raise TaskError("a backfill needs --start and --end")
    with scheduler(chosen) as opened:
        if chosen.stop is not None:
            opened.end_backfill(chosen.id, chosen.stop)
        elif start is not None and end is not None:
            opened.backfill(chosen.id, start, end, max_running=chosen.max_running)
        found = opened.backfill_of(opened.get(chosen.id))
    if found is None:
        print(json.dumps(None) if chosen.json else f"no backfill of {chosen.id}")
    else:
        output.show(asdict(found), as_json=chosen.json)
    return 0


def _dead(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        found = opened.dead(chosen.id, chosen.n)
    output.table([[rows.dead_run(run) for run in found]], rows.DEAD_COLUMNS, as_json=chosen.json)
    return 0


def _requeue(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        run_id = opened.requeue(chosen.run)
    print(json.dumps({"run": run_id}) if chosen.json else f"requeued {run_id}")
    return 0


def _bury(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        count = opened.bury(chosen.run)
    print(f"forgot {count} dead runs")
    return 0 if count else 4


def _doctor(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        found = opened.examine(fix=chosen.fix)
    output.table([[rows.finding(one) for one in found]], rows.FINDING_COLUMNS, as_json=chosen.json)
    return 1 if any(one.is_mended is not True for one in found) else 0


def _purge(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        found = opened.purge(timedelta(days=chosen.older_than))
    print(json.dumps(found) if chosen.json else f"forgot {found['entries']} entries and {found['dead']} dead runs")
    return 0


def _history(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        entries = opened.history(chosen.id, chosen.n)
        if not entries and chosen.id is not None:
            # Raises DoesNotExist; a task that just had no run yet is no error.
            opened.get(chosen.id)
    output.table([[rows.history(entry) for entry in entries]], rows.HISTORY_COLUMNS, as_json=chosen.json)
    return 0


def _workers(chosen: argparse.Namespace) -> int:
    with scheduler(chosen) as opened:
        found = opened.workers()
    output.table([[rows.worker(state) for state in found]], rows.WORKER_COLUMNS, as_json=chosen.json)
    return 0


def _demo(chosen: argparse.Namespace) -> int:
    from sisy_redis import demo

    return demo.run(as_json=chosen.json)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "add": _add,
    "list": _list,
    "show": _show,
    "next": _next,
    "pause": _pause,
    "resume": _resume,
    "delete": _delete,
    "trigger": _trigger,
    "skip": _skip,
    "maintenance": _maintenance,
    "runs": _runs,
    "cancel": _cancel,
    "explain": _explain,
    "backfill": _backfill,
    "dead": _dead,
    "requeue": _requeue,
    "bury": _bury,
    "purge": _purge,
    "doctor": _doctor,
    "history": _history,
    "workers": _workers,
    "demo": _demo,
}
