"""What the journals say about the occurrences of tasks with an interval: which are missing, which were admitted twice."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]


def task_of(row: Row) -> str:
    return str(row["run"]).rsplit(":", 2)[0]


def nominal_of(row: Row) -> datetime:
    return datetime.fromisoformat(row["nominal"])


def missing(rows: Iterable[Row], task_id: str, step: timedelta) -> list[datetime]:
    """Instants between the first and the last that ran, at which nothing did."""
    instants = {nominal_of(row) for row in rows if task_of(row) == task_id}
    if not instants:
        return []
    first, last = min(instants), max(instants)
    grid = [first + i * step for i in range(round((last - first) / step) + 1)]
    return [instant for instant in grid if instant not in instants]


def started_twice(rows: Iterable[Row]) -> list[tuple[str, datetime]]:
    """Runs whose first attempt was started more than once: their admission, or their end, was forgotten."""
    seen: set[str] = set()
    twice = []
    for row in rows:
        if row["attempt"] == 1 and row["event"] == "start":
            if row["run"] in seen:
                twice.append((task_of(row), nominal_of(row)))
            seen.add(row["run"])
    return twice
