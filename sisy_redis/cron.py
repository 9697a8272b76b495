"""Cron expressions and the instants they name in a time zone.

croniter reads the fields and never sees a zone (given one, it is wrong around transitions). Everything after that is
arithmetic on *pieces*: ``count`` instants from ``first`` every ``step`` seconds, so ``* * * * * *`` costs little more
than ``0 2 * * *``. UTC is walked in stretches of constant offset: only there is local time an arithmetic progression.
"""

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter

from sisy_redis.clock import EPOCH
from sisy_redis.definitions import DstRule
from sisy_redis.errors import ScheduleError

__all__ = ["CronExpression", "Piece", "clip", "instants", "merge", "parse", "smallest_gap", "zone"]

Piece = tuple[int, int, int]
"""``(first, step, count)``; the step of a single instant means nothing."""

MAX_LENGTH = 256
DAY = 86_400
HOUR = 3_600
LONGEST_CAUGHT_GAP = 3 * HOUR
"""Debian cron's limit: a longer jump of the local clock (Apia skipped a day) is a correction, not a DST change."""

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day-of-month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day-of-week", "0-7 or sun-sat"),
    ("second", "0-59"),
)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_DAY = date(9990, 1, 1).toordinal() - _EPOCH_ORDINAL
_MONTHS_SEARCHED = 12 * 60  # 29 February on one weekday comes back after at most 40 years
_WHOLE_DAY_PIECES = 256
_CRONITER_ERRORS = (ValueError, OverflowError, OSError, AttributeError, TypeError, LookupError)
_HASHED = re.compile(r"(?:^|,)h(?:$|[(/,])")
_RANDOM = re.compile(r"(?:^|,)r(?:$|[(/,])")
_SINGLE_RANGE = re.compile(r"(?P<low>\w+)-(?P<high>\w+)(?:/0*[1-9]\d*)?(?P<nth>#\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class _Days:
    """Which local days match. None where the field allows every day."""

    months: frozenset[int]
    month_days: frozenset[int] | None
    last_day: bool
    nearest_weekdays: frozenset[int]
    weekdays: frozenset[int] | None
    nth_weekdays: frozenset[tuple[int, int]]
    either: bool

    @property
    def all(self) -> bool:
        """Every day matches."""
        return self.month_days is None and self.weekdays is None and len(self.months) == 12


@dataclass(frozen=True, slots=True, eq=False)
class CronExpression:
    """A validated expression. ``fixed``: neither minute nor hour starts with ``*``, so it runs once per local day.

    ``resolution`` is 60 where every instant is a whole minute, else 1.
    """

    text: str
    fixed: bool
    resolution: int
    hours: tuple[int, ...]
    hour: tuple[Piece, ...]
    day: tuple[Piece, ...] | None
    days: _Days


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone called ``name``. Raises ScheduleError where there is none."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError, AttributeError) as error:
        raise ScheduleError(f"Unknown time zone {name!r}; use an IANA name such as 'Europe/Berlin'") from error


def parse(expression: str, *, hash_id: str | None = None) -> CronExpression:
    """Read five cron fields, an optional sixth for seconds, or an @alias. ``H`` is hashed from ``hash_id``.

    Raises ScheduleError, naming the field, where it cannot be read, is longer than 256 characters, or never fires.
    """
    if not isinstance(expression, str):
        raise ScheduleError(f"A cron expression must be text, not {type(expression).__name__}")
    if len(expression) > MAX_LENGTH:
        raise ScheduleError(f"Bad cron expression: {len(expression)} characters, at most {MAX_LENGTH} are allowed")
    return _parse(expression, hash_id if "h" in expression.lower() else None)


@lru_cache(maxsize=2048)
def _parse(expression: str, hash_id: str | None) -> CronExpression:
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in ALIASES:
            raise ScheduleError(f"Bad cron expression {expression!r}: unknown alias, use one of {', '.join(ALIASES)}")
        text = ALIASES[text]
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ScheduleError(f"Bad cron expression {expression!r}: {len(fields)} fields; 5, or 6 with seconds last")
    hashed = False
    for index, field in enumerate(fields):
        if _RANDOM.search(field):
            raise _bad(expression, index, field, "is random, which cannot be planned; use H")
        if _HASHED.search(field):
            hashed = True
            if hash_id is None:
                raise _bad(expression, index, field, "uses H, which needs a task id")
    fields = [",".join(_normalised(part) for part in field.split(",")) for field in fields]
    read = _read(expression, fields, hash_id if hashed else None)
    found = _build(text, fields, read)
    if _next_day(found.days, 0) is None:
        raise ScheduleError(
            f"Bad cron expression {expression!r}: it never fires, its day-of-month, month and "
            "day-of-week fields exclude each other"
        )
    return found


def _bad(expression: str, index: int, field: str, problem: str) -> ScheduleError:
    return ScheduleError(f"Bad cron expression {expression!r}: the {_FIELDS[index][0]} field {field!r} {problem}")


def _normalised(part: str) -> str:
    """``5-5`` and ``20-20/3`` as the one value they are; croniter reads them as the whole field."""
    match = _SINGLE_RANGE.fullmatch(part)
    if not match:
        return part
    low, high = match["low"], match["high"]
    same = int(low) == int(high) if low.isdecimal() and high.isdecimal() else low == high
    return low + (match["nth"] or "") if same else part


def _read(expression: str, fields: list[str], hash_id: str | None) -> croniter:
    start = 946_684_800.0  # any: only the fields are used, and without one croniter would read the clock
    try:
        return croniter(" ".join(fields), start, hash_id=hash_id)
    except _CRONITER_ERRORS as error:
        for index, field in enumerate(fields):
            alone = ["*"] * len(fields)
            alone[index] = field
            try:
                croniter(" ".join(alone), start, hash_id=hash_id)
            except _CRONITER_ERRORS:
                raise _bad(expression, index, field, f"is not valid ({_FIELDS[index][1]})") from error
        raise ScheduleError(f"Bad cron expression {expression!r}: {error}") from error


def _build(text: str, fields: list[str], read: croniter) -> CronExpression:
    expanded: list[list[Any]] = read.expanded
    nths: dict[Any, set[Any]] = read.nth_weekday_of_month
    minutes, hours = _values(expanded[0], 60), _values(expanded[1], 24)
    seconds = _values(expanded[5], 60) if len(expanded) > 5 else (0,)
    minute = tuple(merge((value, 0, 1) for value in seconds))
    hour = tuple(merge(_shifted(minute, minutes, 60)))
    day = tuple(merge(_shifted(hour, hours, HOUR))) if len(hour) * len(hours) <= _WHOLE_DAY_PIECES else None
    nth = frozenset(
        (weekday, 0 if n == "l" else int(n))
        for key, ns in nths.items()
        for weekday in (range(7) if key == "*" else (int(key),))
        for n in ns
    )
    any_day = expanded[2] == ["*"]
    any_weekday = expanded[4] == ["*"] and not nth
    days = _Days(
        months=frozenset(_values(expanded[3], 12, 1)),
        month_days=None if any_day else frozenset(value for value in expanded[2] if isinstance(value, int)),
        last_day="l" in expanded[2],
        nearest_weekdays=frozenset(read.nearest_weekday),
        weekdays=None if any_weekday else frozenset(_values(expanded[4], 7)),
        nth_weekdays=nth,
        either=not (any_day or any_weekday or fields[2].startswith("*") or fields[4].startswith("*")),
    )
    return CronExpression(
        text=text,
        fixed=not (fields[0].startswith("*") or fields[1].startswith("*")),
        resolution=60 if seconds == (0,) else 1,
        hours=hours,
        hour=hour,
        day=day,
        days=days,
    )


def _values(expanded: Iterable[int | str], size: int, lowest: int = 0) -> tuple[int, ...]:
    values = sorted(value for value in expanded if isinstance(value, int))
    return tuple(values) if values else tuple(range(lowest, lowest + size))


def _shifted(pieces: tuple[Piece, ...], values: Iterable[int], unit: int) -> Iterator[Piece]:
    for value in values:
        for first, step, count in pieces:
            yield first + value * unit, step, count


def merge(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join ascending pieces greedily where they continue each other."""
    current: Piece | None = None
    for piece in pieces:
        if current is None:
            current = piece
            continue
        (start, stride, size), (first, step, count) = current, piece
        if size == 1 and (count == 1 or first - start == step):
            current = (start, first - start, count + 1)
        elif size > 1 and first == start + stride * size and (count == 1 or step == stride):
            current = (start, stride, size + count)
        else:
            yield current
            current = piece
    if current is not None:
        yield current


def clip(piece: Piece, low: int, high: int) -> Piece | None:
    """The part of a piece in [low, high)."""
    first, step, count = piece
    if first < low:
        skipped = count if count == 1 else -((first - low) // step)
        if skipped >= count:
            return None
        first, count = first + skipped * step, count - skipped
    if first >= high:
        return None
    return first, step, count if count == 1 else min(count, (high - 1 - first) // step + 1)


def smallest_gap(expression: CronExpression) -> int:
    """Seconds between the two instants of one or two neighbouring local days that are closest together."""
    if expression.day is None:
        return 1
    first, last, smallest = expression.day[0][0], None, DAY
    for start, step, count in expression.day:
        if last is not None:
            smallest = min(smallest, start - last)
        if count > 1:
            smallest = min(smallest, step)
        last = start + step * (count - 1)
    return min(smallest, first + DAY - last) if last is not None else smallest


@lru_cache(maxsize=8192)
def _month(days: _Days, year: int, month: int) -> tuple[int, ...]:
    """The matching days of a month."""
    first_weekday, length = monthrange(year, month)
    by_month_day = _month_days(days, first_weekday, length)
    by_weekday = set()
    for day in range(1, length + 1):
        weekday = (first_weekday + day) % 7  # 0 is Sunday
        nth, last = (weekday, (day - 1) // 7 + 1), (weekday, 0)
        if days.nth_weekdays:
            matches = nth in days.nth_weekdays or (last in days.nth_weekdays and day + 7 > length)
        else:
            matches = days.weekdays is None or weekday in days.weekdays
        if matches:
            by_weekday.add(day)
    return tuple(sorted(by_month_day | by_weekday if days.either else by_month_day & by_weekday))


def _month_days(days: _Days, first_weekday: int, length: int) -> set[int]:
    if days.month_days is None:
        return set(range(1, length + 1))
    if not days.nearest_weekdays:
        return {day for day in days.month_days if day <= length} | ({length} if days.last_day else set())
    found = set()
    for wanted in days.nearest_weekdays:
        day = min(wanted, length)
        weekday = (first_weekday + day - 1) % 7  # 0 is Monday
        if weekday == 5:
            day += -1 if day > 1 else 2
        elif weekday == 6:
            day += 1 if day < length else -2
        found.add(day)
    return found


@lru_cache(maxsize=16_384)
def _next_day(days: _Days, day: int) -> int | None:
    """The first matching local day (days since the epoch) at or after ``day``."""
    if days.all:
        return day
    at = date.fromordinal(day + _EPOCH_ORDINAL)
    year, month, month_day = at.year, at.month, at.day
    for _ in range(_MONTHS_SEARCHED):
        if month in days.months:
            found = _month(days, year, month)
            index = bisect_left(found, month_day)
            if index < len(found):
                return date(year, month, found[index]).toordinal() - _EPOCH_ORDINAL
        month_day, month = 1, month + 1
        if month > 12:
            year, month = year + 1, 1
    return None


def _local(expression: CronExpression, low: int, high: int) -> Iterator[Piece]:
    """The matching local times in [low, high), as seconds since the local epoch."""
    for day in range(low // DAY, (high - 1) // DAY + 1):
        if _next_day(expression.days, day) != day:
            continue
        midnight = day * DAY
        pieces = expression.day
        if pieces is None:
            hours = [hour for hour in expression.hours if low < midnight + (hour + 1) * HOUR]
            times: Iterable[Piece] = _shifted(expression.hour, hours, HOUR)
        else:
            times = pieces
        for first, step, count in times:
            if first + midnight >= high:
                break
            inside = clip((first + midnight, step, count), low, high)
            if inside:
                yield inside


@dataclass(frozen=True, slots=True)
class _Stretch:
    """UTC seconds [start, end) of one offset.

    ``gap`` is the local time skipped at ``start``; local times before ``repeated_until`` are there a second time.
    """

    start: int
    end: int
    offset: int
    gap: tuple[int, int] | None
    repeated_until: int | None


def _offset(tz: ZoneInfo, utc: int) -> int:
    offset = (EPOCH + timedelta(seconds=utc)).astimezone(tz).utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)


@lru_cache(maxsize=8192)
def _transition(tz: ZoneInfo, day: int) -> tuple[int, int, int] | None:
    """(instant, offset before, offset after) of the change in this UTC day, its first second excluded."""
    low, high = day * DAY, (day + 1) * DAY
    before, after = _offset(tz, low), _offset(tz, high)
    if before == after:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(tz, middle) == before:
            low = middle
        else:
            high = middle
    return high, before, after


@lru_cache(maxsize=8192)
def _stretches(tz: ZoneInfo, day: int) -> tuple[_Stretch, ...]:
    """A UTC day cut where the offset changes. A repeated hour may reach into the day after its change."""
    start, end = day * DAY, (day + 1) * DAY
    changes = [change for change in (_transition(tz, day - 1), _transition(tz, day)) if change and change[0] < end]
    cuts = [start, *(change[0] for change in changes if change[0] > start), end]
    found = []
    for low, high in pairwise(cuts):
        gaps = [(at + before, at + after) for at, before, after in changes if at == low and before < after]
        repeats = [at + before for at, before, after in changes if at <= low and before > after]
        found.append(_Stretch(low, high, _offset(tz, low), gaps[0] if gaps else None, max(repeats, default=None)))
    return tuple(found)


def instants(expression: CronExpression, tz: ZoneInfo, dst: DstRule, after: int, end: int) -> Iterator[Piece]:
    """The UTC seconds the expression names in a zone, strictly between ``after`` and ``end``, ascending, as pieces.

    The rule is Debian cron's: a fixed local time runs once per local day (in a gap: right after it; in a repeated hour:
    the first time), while wildcard minutes and hours follow elapsed time. ``dst`` changes only fixed times.
    """
    low, day = after + 1, (after + 1) // DAY
    while day * DAY < end and day < _LAST_DAY:
        match = _next_day(expression.days, day - 1)
        if match is None:
            return
        if match > day + 1:
            day = match - 1
            continue
        for stretch in _stretches(tz, day):
            if stretch.end > low and stretch.start < end:
                yield from _in_stretch(expression, stretch, dst, max(low, stretch.start), min(end, stretch.end))
        day += 1


def _in_stretch(expression: CronExpression, stretch: _Stretch, dst: DstRule, low: int, high: int) -> Iterator[Piece]:
    offset = stretch.offset
    local_low, local_high = low + offset, high + offset
    if expression.fixed:
        if stretch.gap and low == stretch.start and dst is not DstRule.SKIP and _caught(expression, stretch.gap):
            yield low, 0, 1
            local_low += 1
        if stretch.repeated_until is not None and dst is not DstRule.BOTH:
            local_low = max(local_low, stretch.repeated_until)
    if local_low < local_high:
        for first, step, count in _local(expression, local_low, local_high):
            yield first - offset, step, count


def _caught(expression: CronExpression, gap: tuple[int, int]) -> bool:
    """A local time in the gap is made up for right after it."""
    return gap[1] - gap[0] <= LONGEST_CAUGHT_GAP and next(_local(expression, *gap), None) is not None
