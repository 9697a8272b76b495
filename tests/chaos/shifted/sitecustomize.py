"""On the path of a worker whose wall clock is to be wrong: shifts what Python reads of it by CHAOS_SHIFT_SECONDS."""

import datetime
import os
import time

_SHIFT = int(os.environ.get("CHAOS_SHIFT_SECONDS", "0"))
_time, _time_ns = time.time, time.time_ns


class _Datetime(datetime.datetime):
    # As large as the original, which compiled modules check.
    __slots__ = ()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> "_Datetime":
        return cls.now(datetime.UTC).replace(tzinfo=None)


if _SHIFT:
    time.time = lambda: _time() + _SHIFT
    time.time_ns = lambda: _time_ns() + _SHIFT * 1_000_000_000
    datetime.datetime = _Datetime  # type: ignore[misc]
