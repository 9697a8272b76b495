"""Which instants a task has coming, and what becomes of the ones it missed. No Redis, no clock but ``upcoming``'s."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from sisy_redis import clock, cron
from sisy_redis.cron import Piece
from sisy_redis.definitions import Definition, Dropped, DstRule, Misfire, Plan, Reason, Replan, Segment
from sisy_redis.errors import ScheduleError

__all__ = ["check_schedule", "decode", "encode", "is_once", "jitter_ms", "plan", "replan", "upcoming"]

HORIZON_MS = 48 * 3_600_000
MAX_SEGMENTS = 8
ONCE = "@once"

_EVERY = re.compile(r"@every\s+(?P<seconds>\S+)\s*", re.IGNORECASE)
_COUNTED_PIECES = 5_000
_MOST_SKIPPED = 16
_NO_END_MS = 8 * clock.FAR_FUTURE_MS
_WHOLE_MINUTE_OFFSETS_MS = 100_000_000_000  # from 1973 on no zone's offset has seconds
_SEGMENT = re.compile(r"(\d+):(\d+):(\d+|\*)", re.ASCII)


def upcoming(
    schedule: str,
    tz: str = "UTC",
    after: datetime | None = None,
    n: int = 5,
    *,
    hash_id: str | None = None,
    dst: DstRule | str = DstRule.CRON,
) -> list[datetime]:
    """The first ``n`` instants of a schedule strictly later than ``after`` (default: now), aware, in ``tz``.

    ``schedule`` is a cron expression, an @alias or ``@every <seconds>``; its ``H`` fields are hashed from
    ``hash_id``. Needs no Redis. Raises ScheduleError for what cannot be read, an unknown zone, or a naive ``after``.
    """
    if not isinstance(schedule, str):
        raise ScheduleError(f"A schedule must be text, not {type(schedule).__name__}")
    if after is not None and not isinstance(after, datetime):
        raise ScheduleError(f"after must be a datetime, not {type(after).__name__}")
    if after is not None and after.utcoffset() is None:
        raise ScheduleError("after must be an aware datetime; add tzinfo")
    if isinstance(n, bool) or not isinstance(n, int):
        raise ScheduleError(f"n must be a whole number, not {n!r}")
    if is_once(schedule):
        raise ScheduleError("@once has no instants of its own; it is due at the task's start")
    # Nothing fires before the epoch, where sisy's time begins.
    start_ms = clock.wall_ms() if after is None else max(-1, clock.to_ms(after))
    timeline = _Timeline(schedule, cron.zone(tz), _rule(dst), hash_id, None)
    found = islice(_enumerated(timeline.pieces(start_ms, _NO_END_MS)), max(n, 0))
    return [clock.from_ms(ms).astimezone(timeline.tz) for ms in found]


def _rule(dst: object) -> DstRule:
    try:
        return DstRule(dst)  # type: ignore[arg-type]
    except ValueError as error:
        raise ScheduleError(f"dst must be one of {', '.join(DstRule)}, not {dst!r}") from error


def check_schedule(definition: Definition) -> None:
    """Raise ScheduleError unless the schedule can be read and has an instant in [start, end)."""
    for name in ("jitter_ms", "min_gap_ms", "misfire_grace_ms", "catchup_window_ms", "max_catchup"):
        if getattr(definition, name) < 0:
            raise ScheduleError(f"{name} cannot be negative: {getattr(definition, name)}")
    timeline = _timeline(definition)
    if definition.start_ms >= definition.end_ms:
        raise ScheduleError("end_running must be later than start_running")
    if timeline is None:
        return
    if next(timeline.pieces(definition.start_ms - 1, definition.end_ms), None) is None:
        raise ScheduleError(f"The schedule {definition.schedule!r} never fires between start_running and end_running")
    if definition.jitter_ms:
        gap_ms = max(timeline.smallest_gap_ms(), definition.min_gap_ms)
        if definition.jitter_ms > gap_ms:
            raise ScheduleError(
                f"jitter ({definition.jitter_ms} ms) cannot exceed the gap between two instants ({gap_ms} ms)"
            )


def plan(
    definition: Definition,
    after_ms: int,
    *,
    previous_ms: int | None = None,
    horizon_ms: int = HORIZON_MS,
    max_segments: int = MAX_SEGMENTS,
) -> Plan:
    """The instants strictly after ``after_ms`` and in [start, end), at least ``min_gap_ms`` apart.

    They reach at most ``horizon_ms`` ahead, but there are two where two exist (with ``max_segments`` of 2 or more);
    an interval is one segment without an end. Planning again after the last instant continues without gap or repeat:
    ``after_ms`` counts as taken if it is an instant of the schedule, ``previous_ms`` in any case: both keep their
    distance from what follows. ``complete`` only if nothing can follow.
    """
    timeline = _timeline(definition)
    if timeline is None:
        return Plan((Segment(definition.start_ms, 0, 1),) if definition.start_ms > after_ms else (), True)
    previous = _latest(_taken(timeline, definition, after_ms), previous_ms if definition.min_gap_ms else None)
    low = max(after_ms, definition.start_ms - 1)
    if timeline.step_ms:
        return _interval(timeline, definition, low, previous)
    unit = timeline.unit_ms(low, horizon_ms)
    limit = after_ms // unit * unit + horizon_ms
    low = low // unit * unit
    return _cron_plan(timeline, low, definition.end_ms, definition.min_gap_ms, previous, limit, max_segments)


def replan(definition: Definition, cursor_ms: int, now_ms: int, previous_ms: int | None = None) -> Replan:
    """What becomes of a task whose plan ran out at ``cursor_ms``: missed instants by its policy, then a plan.

    ``previous_ms`` is the nominal instant of its last run, from which the next ones keep their distance.

    Late is an instant at or before ``now_ms - misfire_grace_ms``. What is older than the catch-up window (0: no window)
    is dropped, then the policy decides; dropped ranges ascend and do not overlap. A one-off instant is never dropped.
    """
    timeline = _timeline(definition)
    if timeline is None:
        return Replan((), plan(definition, cursor_ms))
    late_ms = now_ms - definition.misfire_grace_ms
    dropped: list[Dropped] = []
    cursor = cursor_ms
    if definition.catchup_window_ms:
        old_ms = min(now_ms - definition.catchup_window_ms - 1, late_ms)
        old = _missed(timeline, definition, cursor, old_ms, 0, previous_ms)
        dropped += old.dropped(Reason.WINDOW)
        cursor = old.last(cursor)
    keep, reason = _policy(definition)
    missed = _missed(timeline, definition, cursor, late_ms, keep, previous_ms)
    dropped += missed.dropped(reason)
    cursor = missed.last(cursor)
    decided = cursor if definition.min_gap_ms else max(cursor, late_ms)
    ahead = plan(definition, decided, previous_ms=previous_ms, horizon_ms=HORIZON_MS + max(now_ms - decided, 0))
    kept = [_segment(piece) for piece in missed.kept]
    return Replan(tuple(dropped), Plan(_joined(kept, ahead.segments), ahead.complete))


def jitter_ms(task_id: str, nominal_ms: int, limit_ms: int) -> int:
    """How much later than nominal an occurrence is due: 0 to ``limit_ms - 1``, as the scripts compute it."""
    if limit_ms <= 0:
        return 0
    digest = hashlib.sha1(f"{task_id}:{nominal_ms}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % limit_ms


def encode(value: Plan) -> str:
    """A plan as stored: ``first:step:count,…``, ``*`` for an endless count, a trailing ``.`` if complete.

    Scripts put a ``!`` before a first instant that is none of the schedule's.
    """
    parts = (f"{s.first_ms}:{s.step_ms}:{'*' if s.count is None else s.count}" for s in value.segments)
    return ",".join(parts) + ("." if value.complete else "")


def decode(text: str) -> Plan:
    """The plan that ``encode`` wrote. Raises ValueError for any other text."""
    body = text.removeprefix("!").removesuffix(".")
    segments = []
    for part in body.split(",") if body else ():
        match = _SEGMENT.fullmatch(part)
        if not match:
            raise ValueError(f"Not a plan: {text!r}")
        segments.append(Segment(int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])))
    return Plan(tuple(segments), text.endswith("."), text.startswith("!"))


class _Timeline:
    """A schedule in its zone: the source of its instants, shared by all tasks that have the same one."""

    __slots__ = ("anchor_ms", "dst", "expression", "step_ms", "tz")

    def __init__(self, schedule: str, tz: ZoneInfo, dst: DstRule, hash_id: str | None, anchor_ms: int | None) -> None:
        self.tz = tz
        self.dst = dst
        self.anchor_ms = anchor_ms or 0
        self.step_ms = _every_ms(schedule)
        self.expression = None if self.step_ms else cron.parse(schedule, hash_id=hash_id)

    def pieces(self, after_ms: int, end_ms: int) -> Iterator[Piece]:
        """The instants strictly after ``after_ms`` and before ``end_ms``, in ms."""
        if self.expression is None:
            first = self.anchor_ms + ((after_ms - self.anchor_ms) // self.step_ms + 1) * self.step_ms
            if first < end_ms:
                yield first, self.step_ms, (end_ms - 1 - first) // self.step_ms + 1
            return
        for first, step, count in cron.instants(
            self.expression, self.tz, self.dst, after_ms // 1000, -(-end_ms // 1000)
        ):
            yield first * 1000, step * 1000, count

    def spaced(self, after_ms: int, end_ms: int, gap_ms: int, previous_ms: int | None) -> Iterator[Piece]:
        """The same, thinned to instants at least ``gap_ms`` after the one before, counted from ``previous_ms``."""
        if previous_ms is not None:
            after_ms = max(after_ms, previous_ms + gap_ms - 1)
        source = self.pieces(after_ms, end_ms)
        skipped = 0
        while (piece := next(source, None)) is not None:
            spaced = _spaced(piece, gap_ms, previous_ms)
            if spaced:
                previous_ms, skipped = _last(spaced), 0
                yield spaced
            elif previous_ms is not None and (skipped := skipped + 1) > _MOST_SKIPPED:
                # A dense irregular schedule under a long gap: look from the gap's end instead of reading through it.
                source, skipped = self.pieces(previous_ms + gap_ms - 1, end_ms), 0

    def has(self, ms: int) -> bool:
        return next(self.pieces(ms - 1, ms + 1), None) is not None

    def smallest_gap_ms(self) -> int:
        return self.step_ms if self.expression is None else cron.smallest_gap(self.expression) * 1000

    def unit_ms(self, after_ms: int, horizon_ms: int) -> int:
        """The whole unit that ``after_ms`` may be rounded down to without changing what comes after it."""
        whole_minutes = self.expression is not None and self.expression.resolution == 60
        if whole_minutes and after_ms >= _WHOLE_MINUTE_OFFSETS_MS and horizon_ms % 60_000 == 0:
            return 60_000
        return 1000


@lru_cache(maxsize=4096)
def _shared(schedule: str, tz: str, dst: DstRule, hash_id: str | None, anchor_ms: int | None) -> _Timeline:
    return _Timeline(schedule, cron.zone(tz), dst, hash_id, anchor_ms)


def _timeline(definition: Definition) -> _Timeline | None:
    """None for ``@once``."""
    if not isinstance(definition.schedule, str):
        raise ScheduleError(f"A schedule must be text, not {type(definition.schedule).__name__}")
    if is_once(definition.schedule):
        cron.zone(definition.tz)
        return None
    hash_id = definition.id if "h" in definition.schedule.lower() else None
    return _shared(definition.schedule, definition.tz, definition.dst, hash_id, definition.anchor_ms)


def is_once(schedule: str) -> bool:
    """Whether a schedule is the one instant that a task's start names."""
    return schedule.strip().lower() == ONCE


def _every_ms(schedule: str) -> int:
    """The step of ``@every <seconds>``, 0 for any other schedule."""
    if not schedule.lstrip().lower().startswith("@every"):
        return 0
    match = _EVERY.fullmatch(schedule.strip())
    try:
        seconds = float(match["seconds"]) if match else math.nan
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= clock.FAR_FUTURE_MS / 1000:
        raise ScheduleError(f"Bad interval {schedule!r}: @every needs a number of seconds, at least 0.001")
    return round(seconds * 1000)


def _enumerated(pieces: Iterable[Piece]) -> Iterator[int]:
    for first, step, count in pieces:
        for index in range(count):
            yield first + index * step


def _taken(timeline: _Timeline, definition: Definition, after_ms: int) -> int | None:
    """``after_ms`` if the instants after it must keep their distance from it."""
    in_bounds = definition.start_ms <= after_ms < definition.end_ms
    return after_ms if definition.min_gap_ms and in_bounds and timeline.has(after_ms) else None


def _latest(one: int | None, other: int | None) -> int | None:
    return max(one, other) if one is not None and other is not None else one if other is None else other


def _spaced(piece: Piece, gap_ms: int, previous_ms: int | None) -> Piece | None:
    """The part of a piece that keeps its distance from the instant before it, and from itself."""
    if previous_ms is not None:
        later = cron.clip(piece, previous_ms + gap_ms, _NO_END_MS)
        if later is None:
            return None
        piece = later
    first, step, count = piece
    if count > 1 and step < gap_ms:
        stride = -(-gap_ms // step)
        return first, step * stride, (count - 1) // stride + 1
    return piece


def _segment(piece: Piece) -> Segment:
    first, step, count = piece
    return Segment(first, step if count > 1 else 0, count)


def _interval(timeline: _Timeline, definition: Definition, low: int, previous: int | None) -> Plan:
    end_ms = definition.end_ms
    endless = end_ms >= clock.FAR_FUTURE_MS
    piece = next(timeline.spaced(low, _NO_END_MS if endless else end_ms, definition.min_gap_ms, previous), None)
    if piece is None:
        return Plan((), True)
    if endless:
        return Plan((Segment(piece[0], piece[1], None),))
    return Plan((_segment(piece),), True)


@lru_cache(maxsize=8192)
def _cron_plan(
    timeline: _Timeline, low: int, end_ms: int, gap_ms: int, previous: int | None, limit: int, max_segments: int
) -> Plan:
    cut = _Cut(timeline.spaced(low, min(end_ms, _NO_END_MS), gap_ms, previous), limit)
    merged = list(islice(cron.merge(cut), max_segments + 1))
    complete = cut.exhausted and len(merged) <= max_segments
    return Plan(tuple(_segment(piece) for piece in merged[:max_segments]), complete)


class _Cut:
    """Pieces up to ``limit_ms``, or up to their second instant; ``exhausted`` once nothing was cut off."""

    def __init__(self, pieces: Iterator[Piece], limit_ms: int) -> None:
        self.exhausted = False
        self._pieces = pieces
        self._limit_ms = limit_ms

    def __iter__(self) -> Iterator[Piece]:
        total = 0
        for first, step, count in self._pieces:
            within = 0 if first > self._limit_ms else 1 if count == 1 else (self._limit_ms - first) // step + 1
            taken = min(count, max(within, 2 - total))
            if taken > 0:
                yield first, step, taken
            if taken < count:
                return
            total += count
        self.exhausted = True


def _joined(kept: list[Segment], ahead: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Late instants that may still run, then the plan; an endless segment absorbs what leads up to it."""
    if ahead and ahead[-1].count is None:
        endless = ahead[-1]
        if len(kept) == 1 and kept[0].count is not None:
            first, step, count = kept[0].first_ms, kept[0].step_ms, kept[0].count
            if first + endless.step_ms * count == endless.first_ms and step in (0, endless.step_ms):
                return (Segment(first, endless.step_ms, None),)
        return (*kept, *ahead)
    pieces = [(s.first_ms, s.step_ms, s.count) for s in (*kept, *ahead) if s.count is not None]
    return tuple(_segment(piece) for piece in cron.merge(pieces))


@dataclass(frozen=True, slots=True)
class _Missed:
    """A missed range split into what goes and what is kept. ``count`` is None where the gone were too many to count."""

    count: int | None
    first_ms: int
    last_gone_ms: int
    kept: tuple[Piece, ...]

    def dropped(self, reason: Reason) -> list[Dropped]:
        return [] if self.count == 0 else [Dropped(reason, self.count, self.first_ms, self.last_gone_ms)]

    def last(self, otherwise_ms: int) -> int:
        """The last instant of the range, kept or not."""
        if self.kept:
            return _last(self.kept[-1])
        return otherwise_ms if self.count == 0 else self.last_gone_ms


def _last(piece: Piece) -> int:
    return piece[0] + piece[1] * (piece[2] - 1)


def _policy(definition: Definition) -> tuple[int, Reason]:
    """How many of the newest late instants may still run, and why the others may not."""
    match definition.misfire:
        case Misfire.COALESCE:
            return 1, Reason.COALESCED
        case Misfire.SKIP:
            return 0, Reason.MISFIRE
        case Misfire.ALL:
            return definition.max_catchup, Reason.LIMIT


def _missed(
    timeline: _Timeline, definition: Definition, cursor_ms: int, until_ms: int, keep: int, previous_ms: int | None
) -> _Missed:
    """The instants after the cursor up to ``until_ms`` inclusive, the newest ``keep`` of them kept."""
    low, end = max(cursor_ms, definition.start_ms - 1), min(until_ms + 1, definition.end_ms)
    gap = definition.min_gap_ms
    previous = _latest(_taken(timeline, definition, cursor_ms), previous_ms if gap else None)
    source = timeline.spaced(low, end, gap, previous)
    pieces = list(islice(source, _COUNTED_PIECES + 1))
    if not pieces:
        return _Missed(0, 0, 0, ())
    first = pieces[0][0]
    counted = len(pieces) <= _COUNTED_PIECES
    if not counted:
        pieces = _newest(timeline, gap, low, end, keep + 1)
    total = sum(count for _, _, count in pieces)
    gone, kept = _split(pieces, max(total - keep, 0))
    count = sum(count for _, _, count in gone) if counted else None
    return _Missed(count, first, _last(gone[-1]) if gone else 0, tuple(cron.merge(kept)))


def _split(pieces: list[Piece], at: int) -> tuple[list[Piece], list[Piece]]:
    """The first ``at`` instants, and the others."""
    before: list[Piece] = []
    for index, (first, step, count) in enumerate(pieces):
        if at < count:
            if at:
                before.append((first, step, at))
            return before, [(first + step * at, step, count - at), *pieces[index + 1 :]]
        before.append((first, step, count))
        at -= count
    return before, []


def _newest(timeline: _Timeline, gap_ms: int, low: int, end: int, need: int) -> list[Piece]:
    """The last instants before ``end``, ``need`` of them where that is cheap, by looking back ever further."""
    back, found = 3_600_000, list[Piece]()
    while True:
        start = max(low, end - 1 - back)
        pieces = list(islice(timeline.spaced(start, end, gap_ms, None), _COUNTED_PIECES + 1))
        if found and len(pieces) > _COUNTED_PIECES:
            return found
        found = pieces
        if start == low or sum(count for _, _, count in found) >= need:
            return found
        back *= 4
