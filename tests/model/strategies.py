"""What producers save, drawn at random: few ids, queues and schedules, so that they meet."""

from typing import Any

from hypothesis import strategies as st
from lab import HOUR, MINUTE, task
from snapshot import STEPS

from sisy_redis.definitions import Definition, Misfire, Overlap

DAY = 24 * HOUR
QUEUES = ("default", "other")
PATHS = ("app.tasks.work", "app.tasks.rare")
DEFINITIONS = st.fixed_dictionaries(
    {"task_id": st.sampled_from(["a", "b", "c:1"])},
    optional={
        "schedule": st.sampled_from(sorted(STEPS)),
        "overlap": st.sampled_from([Overlap.ALLOW, Overlap.SKIP]),
        "misfire": st.sampled_from(Misfire),
        "misfire_grace_ms": st.sampled_from([1_000, 60_000]),
        "catchup_window_ms": st.sampled_from([0, 2 * HOUR]),
        "max_catchup": st.sampled_from([2, 100]),
        "iterations": st.sampled_from([1, 2, 5]),
        "queue": st.sampled_from(QUEUES),
        "enabled": st.booleans(),
        "jitter_ms": st.sampled_from([0, 3_000]),
        "path": st.sampled_from(PATHS),
        "wait_for_schedule": st.booleans(),
        "start_ms": st.sampled_from([0, MINUTE, 2 * HOUR]),
        "end_ms": st.sampled_from([3 * MINUTE, DAY]),
    },
)


def definition_at(now: int, fields: dict[str, Any]) -> Definition:
    """The fields as a definition; its start and its end are given from now."""
    given = dict(fields)
    if given.get("start_ms"):
        given["start_ms"] += now
    if "end_ms" in given:
        given["end_ms"] += max(now, given.get("start_ms", 0))
    return task(**given)
