"""``sisy demo``: tasks of every kind on three workers, one of which is killed in the middle of a run."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from sisy_redis import clock, embedded
from sisy_redis.demo import report
from sisy_redis.demo.course import play
from sisy_redis.demo.fleet import Fleet
from sisy_redis.demo.table import screen
from sisy_redis.demo.verdict import Verdict
from sisy_redis.scheduler import Scheduler

__all__ = ["run"]

_NAMESPACE = "demo"


def run(*, as_json: bool = False) -> int:
    """Runs the demo on an embedded server of its own, in less than a minute; 0 when every expected run happened once.

    Ends every process it started, and removes its files, however it is left.
    """
    begun = clock.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_own_settings())
        stack.enter_context(_signals_as_exits())
        verdict, workers, complaints = _played(stack, as_json)
        # Up to here nothing is printed to a live table's screen; from here on everything has ended.
        stack.close()
    seconds = clock.monotonic() - begun
    if as_json:
        print(json.dumps(report.as_json(verdict, seconds, workers), indent=2))
    else:
        print(report.as_text(verdict, seconds))
    for line in complaints if verdict.problems else ():
        print(line, file=sys.stderr)
    return 1 if verdict.problems else 0


def _played(stack: ExitStack, as_json: bool) -> tuple[Verdict, list[int], list[str]]:
    home = Path(tempfile.mkdtemp(prefix="sisy-demo-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    server = stack.enter_context(embedded.acquire(home / "server"))
    scheduler = stack.enter_context(Scheduler(server.url, namespace=_NAMESPACE))
    fleet = Fleet(server.home, _NAMESPACE, home)
    stack.callback(fleet.stop)
    shown = screen(is_quiet=as_json)
    stack.callback(shown.close)
    shown.say(f"started {server.family} {server.version} in {server.home}")
    verdict = play(scheduler, fleet, home / "journal", shown)
    return verdict, fleet.pids, fleet.complaints()


@contextmanager
def _own_settings() -> Iterator[None]:
    """Hides this user's settings, which are not the demo's, but not where to find a server program."""
    kept = "SISY_REDIS_SERVER"
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SISY_") and name != kept}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP leave through every ``finally``, like Ctrl-C."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
