"""What the demo's tasks do: they write to a journal outside Redis, so that the summary need not trust the engine."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from sisy_redis import clock

FAILURES_BEFORE_OK = 2


def quick(message: Mapping[str, Any]) -> None:
    """A function, in a thread; ends at once."""
    _note(message, "start")
    _note(message, "end")


async def coroutine(message: Mapping[str, Any]) -> None:
    """A coroutine, on the worker's loop."""
    _note(message, "start")
    await asyncio.sleep(0.05)
    _note(message, "end")


def slow(message: Mapping[str, Any]) -> None:
    """Takes as many seconds as its userdata says; its task forbids overlap."""
    _note(message, "start")
    time.sleep(message["task"].userdata["seconds"])
    _note(message, "end")


def fails_twice(message: Mapping[str, Any]) -> None:
    """Raises on its first two attempts."""
    _note(message, "start")
    if message["message"]["attempt"] <= FAILURES_BEFORE_OK:
        _note(message, "error")
        raise RuntimeError("this task fails twice before it succeeds, to show retries")
    _note(message, "end")


def _note(message: Mapping[str, Any], event: str) -> None:
    details = message["message"]
    row = {
        "run_id": details["run_id"],
        "attempt": details["attempt"],
        "token": details["token"],
        "pid": os.getpid(),
        "event": event,
        "at_ms": clock.wall_ms(),
    }
    # One small write with O_APPEND is not torn by those of other processes.
    journal = os.open(message["task"].userdata["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(journal, json.dumps(row).encode() + b"\n")
    finally:
        os.close(journal)
