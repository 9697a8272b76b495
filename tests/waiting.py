"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll(condition: Callable[[], T], timeout: float = 15.0, what: str = "") -> T:
    """The first true value of ``condition``; fails after ``timeout`` seconds, saying ``what`` did not come."""
    deadline = time.monotonic() + timeout
    while True:
        # Asked once more after the deadline, so that a slow machine does not fail what has happened by then.
        is_last = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if is_last:
            raise AssertionError(f"waited {timeout} s in vain{': ' + what if what else ''}; last value {value!r}")
        time.sleep(0.02)
