"""From what users write to a Definition: every field checked and converted, for both faces alike."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

from sisy_redis import callables, planning, settings, userdata
from sisy_redis.definitions import CallableRef, Definition, DstRule, Keep, Misfire, Overlap, Pool
from sisy_redis.errors import TaskError
from sisy_redis.fields import check_id, check_text, read_fields, read_instant

__all__ = [
    "DEFAULT_SCHEDULE",
    "DefineFields",
    "TaskFields",
    "Told",
    "build",
    "build_described",
    "definition_of",
    "stamped",
]


class Told(str):
    """A default argument: reads like the text it stands for, but is told apart from it by identity."""

    __slots__ = ()


class _DefaultSchedule(Told):
    """``SISY_DEFAULT_SCHEDULE``, looked up whenever it is used or shown."""

    __slots__ = ()

    def __str__(self) -> str:
        return settings.current().default_schedule

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


DEFAULT_SCHEDULE: str = _DefaultSchedule("* * * * *")


class TaskFields(TypedDict, total=False):
    """What a task may be given beside its callable, schedule and userdata. Durations: a timedelta, or seconds."""

    enabled: bool
    start_running: datetime
    end_running: datetime
    wait_for_schedule: bool
    iterations: int
    allow_overlap: bool
    overlap: Overlap | str
    keep: Keep | str
    max_running: int
    buffer_limit: int
    pause_after: int
    max_redeliveries: int
    tz: str | ZoneInfo
    dst: DstRule | str
    queue: str
    retry: Any
    timeout: timedelta | float | None
    pool: Pool | str
    jitter: timedelta | float
    misfire: Misfire | str
    misfire_grace: timedelta | float
    catchup_window: timedelta | float
    max_catchup: int


class DefineFields(TaskFields, total=False):
    """``TaskFields`` and what says which task, when and with what data."""

    id: str | None
    label: str | None
    schedule: str | None
    every: timedelta | None
    anchor: datetime | None
    userdata: Mapping[str, Any] | None
    pk_override: Any


_BESIDE_FIELDS = DefineFields.__annotations__.keys() - TaskFields.__annotations__.keys()


def _schedule(schedule: str | None, every: timedelta | None, anchor: datetime | None) -> dict[str, Any]:
    if every is None:
        if anchor is not None:
            raise TaskError("anchor needs every=: a cron schedule has no anchor")
        return {"schedule": str(DEFAULT_SCHEDULE if schedule is None else schedule)}
    if schedule is not None:
        raise TaskError("give schedule= or every=, not both")
    if not isinstance(every, timedelta):
        raise TaskError(f"every must be a timedelta, not {every!r}")
    seconds = every.total_seconds()
    text = f"@every {int(seconds) if seconds == int(seconds) else round(seconds, 3)}"
    return {"schedule": text, "anchor_ms": None if anchor is None else read_instant("anchor", anchor)}


def definition_of(
    ref: CallableRef,
    *,
    id: str,
    label: str | None = None,
    schedule: str | None = None,
    every: timedelta | None = None,
    anchor: datetime | None = None,
    data: Mapping[str, Any] | None = None,
    min_gap_ms: int = 0,
    fields: Mapping[str, Any],
) -> Definition:
    """A checked definition for a callable that was described already. Raises TaskError or one of its kinds."""
    if schedule is not None and not isinstance(schedule, str):
        raise TaskError(f"schedule must be text, not {type(schedule).__name__}")
    read = {"tz": settings.current().time_zone} | read_fields(fields)
    read |= _schedule(schedule, every, anchor)
    definition = Definition(
        id=check_id(id),
        label=check_text("label", label or ref.path),
        callable=ref,
        userdata=userdata.check(data),
        min_gap_ms=min_gap_ms,
        **read,
    )
    definition = stamped(definition)
    planning.check_schedule(definition)
    return definition


def stamped(definition: Definition) -> Definition:
    """With the least gap between two fires that ``SISY_HEARTBEAT_FREQUENCY`` asks for; unset, with its own."""
    heartbeat = settings.current().heartbeat_frequency
    return definition if heartbeat is None else replace(definition, min_gap_ms=round(heartbeat * 1000))


def build(the_callable: Callable[..., Any] | str, given: DefineFields) -> Definition:
    """A checked definition. ``id`` defaults to the label, and that to the dotted path.

    Raises CallableError, UserdataError, ScheduleError or TaskError; nothing is stored.
    """
    data = userdata.check(given.get("userdata"))
    ref = callables.describe(the_callable, pk_override=given.get("pk_override"), userdata=data)
    return build_described(ref, given)


def build_described(ref: CallableRef, given: DefineFields) -> Definition:
    """``build`` for a callable that was described already."""
    fields = {name: value for name, value in given.items() if name not in _BESIDE_FIELDS}
    chosen, label = given.get("id"), given.get("label")
    return definition_of(
        ref,
        id=(label or ref.path) if chosen is None else chosen,
        label=label,
        schedule=given.get("schedule"),
        every=given.get("every"),
        anchor=given.get("anchor"),
        data=given.get("userdata"),
        fields=fields,
    )
