"""What the fleet runs. Each callable writes to a file outside Redis when it began and how it ended, by the monotonic clock,
which no wrong wall clock touches.
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sisy_redis.clock import to_ms


@contextmanager
def journalled(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Writes ``start``, then ``done``, ``raised`` or ``cut`` (cancelled); gives the task's userdata."""
    task, details = message["task"], message["message"]
    userdata = task["userdata"] if isinstance(task, Mapping) else task.userdata
    descriptor = os.open(userdata["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    row = {
        "run": details["run_id"],
        "token": details["token"],
        "attempt": details["attempt"],
        "nominal_ms": to_ms(details["nominal"]),
        "pid": os.getpid(),
        "thread": threading.get_ident(),
    }

    def write(event: str) -> None:
        # One small write to a file opened for appending is not torn by others.
        os.write(descriptor, json.dumps({**row, "event": event, "at": time.monotonic()}).encode() + b"\n")

    try:
        write("start")
        event = "raised"
        try:
            yield userdata
            event = "done"
        except asyncio.CancelledError:
            event = "cut"
            raise
        finally:
            write(event)
    finally:
        os.close(descriptor)


def work(message: Mapping[str, Any]) -> None:
    """Takes ``seconds`` in a thread or a child process."""
    with journalled(message) as userdata:
        time.sleep(userdata.get("seconds", 0))


async def work_coroutine(message: Mapping[str, Any]) -> None:
    """Takes ``seconds`` on the worker's loop."""
    with journalled(message) as userdata:
        await asyncio.sleep(userdata.get("seconds", 0))


def fail(message: Mapping[str, Any]) -> None:
    """Always fails."""
    with journalled(message):
        raise ValueError("as it is meant to")


async def fail_at_first(message: Mapping[str, Any]) -> None:
    """Fails in its first attempt only."""
    with journalled(message):
        if message["message"]["attempt"] == 1:
            raise ValueError("as it is meant to")


def kill_worker(message: Mapping[str, Any]) -> None:
    """Takes its worker down with it, whoever runs it."""
    with journalled(message):
        os.kill(os.getpid(), signal.SIGKILL)
