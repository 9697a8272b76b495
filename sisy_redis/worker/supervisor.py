"""``--processes N``: N children that share nothing; a dead one is started again, signals are passed on."""

import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sisy_redis import clock

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_HEALTHY = 60.0
_PR_SET_PDEATHSIG = 1
_HOPELESS = (2, 3)
_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class _Child:
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = _FIRST_PAUSE
    start_at: float = 0.0
    is_done: bool = False


def run(count: int, command: Sequence[str]) -> int:
    """Keeps ``count`` children running ``command``: one that fails is started again, after 1 s and ever longer up to 30 s.

    Returns 0 when all have ended well, or after SIGTERM or SIGINT, which are passed on, when they have ended. A second
    signal kills them, and 1 is returned. So it does when one ends with 2 or 3 (wrong usage, no server program), which starting
    it again cannot mend; that is returned then. To be called in the main thread.
    """
    return _Supervisor(count, command).run()


class _Supervisor:
    def __init__(self, count: int, command: Sequence[str]) -> None:
        self._command = list(command)
        self._children = [_Child() for _ in range(count)]
        self._signals = 0
        self._hopeless = 0

    def run(self) -> int:
        with _signal_bytes() as read:
            try:
                while not all(child.is_done for child in self._children):
                    self._start_due()
                    for number in read(self._pause()):
                        if number in _STOPS:
                            self._pass_on()
                    self._collect()
            finally:
                self._kill()
        return self._hopeless or (0 if self._signals < 2 else 1)

    def _pause(self) -> float | None:
        waits = [child.start_at for child in self._children if child.process is None and not child.is_done]
        return max(0.0, min(waits) - clock.monotonic()) if waits else None

    def _start_due(self) -> None:
        for child in self._children:
            if child.process is not None or child.is_done or child.start_at > clock.monotonic():
                continue
            child.started = clock.monotonic()
            try:
                # A session of its own: Ctrl-C must reach a child once, through the supervisor.
                child.process = subprocess.Popen(
                    self._command, preexec_fn=die_with(os.getpid()), start_new_session=True
                )
            except OSError as error:
                self._start_later(child, f"cannot be started ({error})")

    def _pass_on(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self._kill()
        for child in self._children:
            if child.process is None:
                child.is_done = True
            elif self._signals == 1:
                child.process.terminate()

    def _kill(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.kill()
                child.process.wait()

    def _collect(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            code, child.process = child.process.returncode, None
            if code in _HOPELESS:
                self._hopeless = code
                self._kill()
            if code == 0 or self._signals or self._hopeless:
                child.is_done = True
            else:
                self._start_later(child, f"ended with {code}")

    def _start_later(self, child: _Child, what: str) -> None:
        if clock.monotonic() - child.started > _HEALTHY:
            child.pause = _FIRST_PAUSE
        log.error("a worker process %s; it is started again in %g s", what, child.pause)
        child.start_at = clock.monotonic() + child.pause
        child.pause = min(_LONGEST_PAUSE, child.pause * 2)


def die_with(parent: int) -> Callable[[], None] | None:
    """What tells a worker, on Linux, that the process that started it was killed: it then drains as if it had been stopped.

    To be given to Popen as ``preexec_fn``.
    """
    if sys.platform != "linux":
        return None
    # Loaded here: a fork is no place to load a library in.
    prctl = ctypes.CDLL(None).prctl

    def tell() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return tell


@contextmanager
def _signal_bytes() -> Iterator[Callable[[float | None], bytes]]:
    """Gives a function that waits, at most so many seconds, for signals, and returns their numbers."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)

    def read(timeout: float | None) -> bytes:
        ready, _, _ = select.select([reader], [], [], timeout)
        return os.read(reader, 512) if ready else b""

    former_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    former = {number: signal.signal(number, _ignore) for number in (*_STOPS, signal.SIGCHLD)}
    try:
        yield read
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_fd)
        os.close(reader)
        os.close(writer)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Only a signal with a handler in Python wakes the reader."""
