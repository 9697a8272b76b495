"""The callables that are timed: they note when they began, and the worker writes that down when it stops."""

import json
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sisy_redis import Scheduler

scheduler = Scheduler()
_began: list[float] = []


def plain(message: Mapping[str, Any]) -> None:
    """A function, run in a thread."""
    _began.append(time.monotonic())


async def coroutine(message: Mapping[str, Any]) -> None:
    """A coroutine, run on the worker's loop."""
    _began.append(time.monotonic())


@scheduler.on_worker_stop
def write_down() -> None:
    """Leaves what was measured where ``BENCHMARK_RESULT`` says."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {"began": _began, "cpu_s": used.ru_utime + used.ru_stime, "peak_rss_kib": used.ru_maxrss}
    Path(os.environ["BENCHMARK_RESULT"]).write_text(json.dumps(result))
