"""The fields of a task: each read and checked as users write it, and shown again as they wrote it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sisy_redis import clock, retry, settings
from sisy_redis.definitions import CallableRef, Definition, DstRule, Keep, Misfire, Overlap, Pool, RetryPolicy
from sisy_redis.errors import ConflictError, TaskError

__all__ = [
    "READABLE",
    "check_id",
    "check_text",
    "complete_fields",
    "fields_of_definition",
    "merged",
    "read_fields",
    "read_instant",
]

MAX_TEXT = 255
MAX_ITERATIONS = 1_000_000_000
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
E = TypeVar("E", bound=StrEnum)


def check_text(name: str, value: object) -> str:
    """``value`` if it is text of at most 255 characters without control characters. Raises TaskError."""
    if not isinstance(value, str):
        raise TaskError(f"{name} must be text, not {type(value).__name__}")
    if len(value) > MAX_TEXT:
        raise TaskError(f"{name} is too long: {len(value)} characters, at most {MAX_TEXT} are allowed")
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        raise TaskError(f"{name} must not hold control characters: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{name} is not valid text: {value!r}") from error
    return value


def check_id(value: object) -> str:
    """A task id as given by a user. Raises TaskError."""
    found = check_text("id", value)
    if not found.strip():
        raise TaskError("id must not be empty")
    return found


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TaskError(f"{name} must be True or False, not {value!r}")
    return value


def read_instant(name: str, value: object) -> int:
    """An aware datetime in ms. Raises TaskError."""
    if not isinstance(value, datetime):
        raise TaskError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise TaskError(f"{name} must be an aware datetime: {value.isoformat()} has no time zone; add tzinfo")
    return clock.to_ms(value)


def _start(name: str, value: object) -> int:
    start_ms = read_instant(name, value)
    if start_ms < 0:
        raise TaskError("Task cannot start running in the past: give a start in the future, or none to start at once")
    return start_ms


def _number(low: int, high: int) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TaskError(f"{name} must be a whole number, not {value!r}")
        if not low <= value <= high:
            raise TaskError(f"{name} must be from {low} to {high}, not {value}")
        return value

    return read


def _duration(name: str, value: object) -> int:
    if isinstance(value, timedelta):
        ms = value // timedelta(milliseconds=1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= clock.FAR_FUTURE_MS / 1000:
        ms = round(value * 1000)
    else:
        raise TaskError(f"{name} must be a timedelta, or a number of seconds from 0 up, not {value!r}")
    if not 0 <= ms <= clock.FAR_FUTURE_MS:
        raise TaskError(f"{name} cannot be negative or longer than two centuries: {value!r}")
    return ms


def _timeout(name: str, value: object) -> int:
    if value is None:
        return 0
    ms = _duration(name, value)
    if ms == 0:
        raise TaskError(f"{name} must be longer than 0; None is no limit")
    return ms


def _choice(kind: type[E]) -> Callable[[str, Any], E]:
    def read(name: str, value: Any) -> E:
        try:
            return kind(value)
        except ValueError as error:
            raise TaskError(f"{name} must be one of {', '.join(kind)}, not {value!r}") from error

    return read


def _zone(name: str, value: object) -> str:
    if isinstance(value, ZoneInfo) and value.key:
        return value.key
    if not isinstance(value, str):
        raise TaskError(f"{name} must be an IANA time zone name such as 'Europe/Berlin', not {value!r}")
    return value


def _queue(name: str, value: object) -> str:
    if not isinstance(value, str) or not _QUEUE.fullmatch(value):
        raise TaskError(f"{name} must be 1 to 64 letters, digits, '_', '.' or '-', not {value!r}")
    return value


def _overlap(name: str, value: object) -> Overlap:
    return Overlap.ALLOW if _flag(name, value) else Overlap.SKIP


def _retry(_name: str, value: object) -> RetryPolicy | None:
    return retry.policy(value)


_READERS: Mapping[str, tuple[str, Callable[[str, object], Any]]] = {
    "enabled": ("enabled", _flag),
    "start_running": ("start_ms", _start),
    "end_running": ("end_ms", read_instant),
    "wait_for_schedule": ("wait_for_schedule", _flag),
    "iterations": ("iterations", _number(0, MAX_ITERATIONS)),
    "allow_overlap": ("overlap", _overlap),
    "overlap": ("overlap", _choice(Overlap)),
    "keep": ("keep", _choice(Keep)),
    "max_running": ("max_running", _number(1, 100)),
    "buffer_limit": ("buffer_limit", _number(1, 1000)),
    "pause_after": ("pause_after", _number(0, 1_000_000)),
    "max_redeliveries": ("max_redeliveries", _number(0, 1000)),
    "tz": ("tz", _zone),
    "dst": ("dst", _choice(DstRule)),
    "queue": ("queue", _queue),
    "retry": ("retry", _retry),
    "timeout": ("timeout_ms", _timeout),
    "pool": ("pool", _choice(Pool)),
    "jitter": ("jitter_ms", _duration),
    "misfire": ("misfire", _choice(Misfire)),
    "misfire_grace": ("misfire_grace_ms", _duration),
    "catchup_window": ("catchup_window_ms", _duration),
    "max_catchup": ("max_catchup", _number(1, 100)),
}


READABLE = tuple(name for name in _READERS if name != "allow_overlap")


def read_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The Definition's fields for what was given, each checked. Raises TaskError, and TypeError for an unknown name."""
    unknown = sorted(given.keys() - _READERS.keys())
    if unknown:
        raise TypeError(f"a task has no field {unknown[0]!r}; it takes {', '.join(_READERS)}")
    if "allow_overlap" in given and "overlap" in given:
        raise TaskError("allow_overlap and overlap say the same; give one of them")
    found = {}
    for name, value in given.items():
        field, read = _READERS[name]
        found[field] = read(name, value)
    _check_overlap(given, found)
    return found


def _check_overlap(given: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if found.get("overlap", Overlap.ALLOW) is Overlap.ALLOW and found.get("max_running", 1) != 1:
        raise TaskError(
            "max_running bounds nothing while overlap is allowed; say with overlap= what happens to further occurrences"
        )


def fields_of_definition(definition: Definition) -> dict[str, Any]:
    """What ``read_fields`` would have been given for this definition."""
    d = definition
    return {
        "enabled": d.enabled,
        "start_running": clock.from_ms(d.start_ms),
        "end_running": clock.from_ms(d.end_ms),
        "wait_for_schedule": d.wait_for_schedule,
        "iterations": d.iterations,
        "overlap": d.overlap,
        "keep": d.keep,
        "max_running": d.max_running,
        "buffer_limit": d.buffer_limit,
        "pause_after": d.pause_after,
        "max_redeliveries": d.max_redeliveries,
        "tz": d.tz,
        "dst": d.dst,
        "queue": d.queue,
        "retry": d.retry,
        "timeout": timedelta(milliseconds=d.timeout_ms) if d.timeout_ms else None,
        "pool": d.pool,
        "jitter": timedelta(milliseconds=d.jitter_ms),
        "misfire": d.misfire,
        "misfire_grace": timedelta(milliseconds=d.misfire_grace_ms),
        "catchup_window": timedelta(milliseconds=d.catchup_window_ms),
        "max_catchup": d.max_catchup,
    }


_NOTHING = CallableRef(path="", module_name="", func_name="")


def complete_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, checked, and the defaults of what was not. Raises as ``read_fields`` does."""
    read = {"tz": settings.current().time_zone} | read_fields(given)
    return fields_of_definition(Definition(id="", label="", callable=_NOTHING, **read))


def merged(wanted: Definition, current: Definition, loaded: Definition) -> Definition:
    """``current`` with what ``wanted`` changed since it was ``loaded``.

    Raises ConflictError when another changed the same field to something else.
    """
    changes: dict[str, Any] = {}
    for field in fields_of(Definition):
        mine, then, now = (getattr(d, field.name) for d in (wanted, loaded, current))
        is_data = field.name == "userdata"
        if _equal(mine, then, is_data) or _equal(mine, now, is_data):
            continue
        # The heartbeat is stamped by whoever saves; nobody chose it for this task.
        if not _equal(now, then, is_data) and field.name != "min_gap_ms":
            raise ConflictError(
                f"task {wanted.id!r}: {field.name} was changed by another since it was loaded; refresh it first"
            )
        changes[field.name] = mine
    return replace(current, **changes)


def _equal(one: Any, other: Any, is_data: bool) -> bool:
    # Python takes 1, 1.0 and True for equal; as data they are not.
    return bool(one == other) and (not is_data or repr(one) == repr(other))
