"""The only reader of this machine's clocks, and the conversions between instants and integers.

No clock read here decides what is due or whose lease ran out: that is the server's alone. ``wall_ms`` serves estimates and
display, ``monotonic`` measures durations, and ``boottime`` measures trust in a lease because it counts time spent suspended.
"""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_FUTURE = datetime(2217, 12, 31, 23, 59, tzinfo=UTC)

_MS = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down."""
    return (instant - EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """The UTC datetime of ``ms`` milliseconds since the epoch."""
    return EPOCH + timedelta(milliseconds=ms)


FAR_FUTURE_MS = to_ms(FAR_FUTURE)


def wall_ms() -> int:
    """This machine's idea of the time: an estimate for display and first guesses, never a decision."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Seconds on a clock that only rises."""
    return time.monotonic()


def boottime() -> float:
    """Seconds on a clock that only rises and counts the time a machine was suspended, where the system has one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
