"""Where callables run: threads fed by a plain queue, coroutines on the loop, child processes that can be killed.

``on_end`` is called exactly once for each run, on the event loop. A run that was ended for the schedule (timeout, cancel) may
physically go on as a zombie, in its thread or as a coroutine that ignores its cancellation; what it returns is ignored.
"""

import asyncio
import contextvars
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from sisy_redis import clock
from sisy_redis.definitions import Outcome
from sisy_redis.worker.child_process import ChildProcess
from sisy_redis.worker.ending import Ended, Failure, failure_of, result_of

log = logging.getLogger(__name__)

_MOST_ZOMBIES = 32
_CANCEL_GRACE = 1.0
_KILL_GRACE = 5.0
_THREAD_PAUSE = 1.0

LONGEST_CUT_S = _KILL_GRACE + 1.0
"""After a timeout or a cancel, a run has ended for the schedule by then, where the event loop can run."""


OnEnd = Callable[[str, Ended], None]


@dataclass(eq=False, slots=True)
class _Run:
    key: str
    call: Callable[[], Any]
    on_end: OnEnd
    started_ms: int = field(default_factory=clock.wall_ms)
    began: float = field(default_factory=clock.monotonic)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None
    child: ChildProcess | None = None
    is_begun: bool = False
    is_over: bool = False
    is_zombie: bool = False
    ending: Outcome | None = None
    result: str = ""


def awaited(result: Any) -> Any:
    """What a function returned, waited for where it is a coroutine: a wrapper around one looks like a plain function."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _outcome_of(failure: Failure | None) -> Outcome:
    return failure.outcome if failure else Outcome.OK


class Pools:
    """Runs callables; ``active`` counts those that take a slot, ``zombies`` what outlived its run.

    At most ``threads`` functions run at once, zombies aside: each of the first 32 zombies is replaced by another thread,
    every further one takes a slot.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int) -> None:
        self._loop = loop
        self._wanted_threads = threads
        self._threads = 0
        self._unfinished = 0
        self._stuck_threads = 0
        self._stuck_coroutines = 0
        self._is_closed = False
        self._queue: SimpleQueue[_Run | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._finished: deque[tuple[_Run, Failure | None]] = deque()
        self._arrived: deque[tuple[_Run, Failure | None]] = deque()
        self._runs: dict[str, _Run] = {}

    @property
    def active(self) -> int:
        """Runs that take a slot."""
        return len(self._runs) + max(0, self.zombies - _MOST_ZOMBIES)

    @property
    def zombies(self) -> int:
        """Functions and coroutines that still go on though their run was ended."""
        return self._stuck_threads + self._stuck_coroutines

    def start(self, key: str, call: Callable[[], Any], *, is_coroutine: bool, timeout_ms: int, on_end: OnEnd) -> None:
        """Runs a function in a thread, or a coroutine function on the loop, in a copy of the caller's context."""
        run = self._new_run(key, call, timeout_ms, on_end)
        if is_coroutine:
            self._watch(run, self._loop.create_task(self._run_coroutine(run), context=run.context))
            return
        self._unfinished += 1
        self._queue.put(run)
        self._staff()

    def start_process(self, key: str, request: dict[str, Any], *, timeout_ms: int, on_end: OnEnd) -> None:
        """Runs a request in a child process of its own, which is killed at its timeout."""
        run = self._new_run(key, lambda: None, timeout_ms, on_end)
        run.child = ChildProcess(request)
        self._watch(run, self._loop.create_task(self._run_child(run, run.child)))

    def cancel(self, key: str, why: str) -> None:
        """Ends a run: a coroutine is cancelled and told why, a child killed, a thread left to itself."""
        run = self._runs.get(key)
        if run is not None:
            self._cut(run, Outcome.CANCELLED, why)

    def ask_to_end(self, key: str) -> None:
        """Cancels a coroutine and kills a child, which end their run when they are gone. A thread has to see for itself."""
        run = self._runs.get(key)
        if run is None or run.is_over or run.ending is not None or run.task is None:
            return
        run.ending = Outcome.CANCELLED
        if run.child is not None:
            run.child.kill()
        run.task.cancel("somebody asked for its end")

    def close(self) -> None:
        """Cancels what runs and lets idle threads end. Nothing may be started afterwards."""
        if self._is_closed:
            return
        self._is_closed = True
        for run in list(self._runs.values()):
            self._cut(run, Outcome.CANCELLED, "its worker stops")
        for _ in range(self._threads):
            self._queue.put(None)

    def _new_run(self, key: str, call: Callable[[], Any], timeout_ms: int, on_end: OnEnd) -> _Run:
        run = _Run(key, call, on_end)
        self._runs[key] = run
        if timeout_ms:
            why = "it ran longer than its timeout"
            run.timer = self._loop.call_later(timeout_ms / 1000, self._cut, run, Outcome.TIMEOUT, why)
        return run

    # --- ending ---------------------------------------------------------------------------------------------------

    def _cut(self, run: _Run, outcome: Outcome, why: str) -> None:
        if run.is_over or run.ending is not None:
            return
        run.ending = outcome
        if run.child is not None:
            run.child.kill()
        if run.task is not None:
            run.task.cancel(why)
            self._loop.call_later(_CANCEL_GRACE if run.child is None else _KILL_GRACE, self._give_up, run, outcome)
            return
        if run.is_begun:
            run.is_zombie = True
            self._stuck_threads += 1
            self._staff()
        self._end(run, outcome, None)

    def _give_up(self, run: _Run, outcome: Outcome) -> None:
        if run.is_over:
            return
        run.is_zombie = True
        self._stuck_coroutines += 1
        self._end(run, outcome, None)

    def _end(self, run: _Run, outcome: Outcome, failure: Failure | None) -> None:
        if run.is_over:
            return
        run.is_over = True
        if run.timer is not None:
            run.timer.cancel()
        # The same run may have come back to this worker while its former attempt was still being cancelled.
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        seconds = clock.monotonic() - run.began
        if failure is None:
            late = f"it ran longer than its timeout and was ended after {seconds:.3f} s"
            failure = Failure(late if outcome is Outcome.TIMEOUT else "")
        ended = Ended(
            outcome,
            failure.text,
            run.started_ms,
            seconds,
            run.result if outcome is Outcome.OK else "",
            failure.raised,
            failure.wants_retry,
            failure.retry_after_ms,
        )
        run.on_end(run.key, ended)

    # --- coroutines and children ----------------------------------------------------------------------------------

    def _watch(self, run: _Run, task: "asyncio.Task[None]") -> None:
        run.task = task
        task.add_done_callback(lambda done: self._task_done(run, done))

    def _task_done(self, run: _Run, task: "asyncio.Task[None]") -> None:
        if run.is_zombie:
            self._stuck_coroutines -= 1
        error = None if task.cancelled() else task.exception()
        if not run.is_over:
            # Cancelled before its first step, or a child that could not be started.
            failed = Outcome.CANCELLED if error is None else Outcome.FAILED
            self._end(run, run.ending or failed, None if error is None else failure_of(error))
        elif error is not None:
            log.error("telling the end of run %s failed", run.key, exc_info=error)

    async def _run_coroutine(self, run: _Run) -> None:
        failure: Failure | None = None
        try:
            run.result = result_of(await run.call())
        except BaseException as error:  # noqa: BLE001 - a user's callable: the edge
            if not (run.ending and isinstance(error, asyncio.CancelledError)):
                failure = failure_of(error)
        self._end(run, run.ending or _outcome_of(failure), failure)

    async def _run_child(self, run: _Run, child: ChildProcess) -> None:
        failure, run.result = await child.run()
        self._end(run, run.ending or _outcome_of(failure), None if run.ending else failure)

    # --- threads --------------------------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Starts the threads that are missing and lets go those that replaced a zombie which has ended."""
        if self._is_closed:
            return
        limit = self._wanted_threads + min(self._stuck_threads, _MOST_ZOMBIES)
        while self._threads < min(self._unfinished, limit):
            try:
                threading.Thread(target=self._work, name="sisy-run", daemon=True).start()
            except RuntimeError as error:
                log.warning("%d runs wait for a thread: %s", self._unfinished - self._threads, error)
                self._loop.call_later(_THREAD_PAUSE, self._staff)
                return
            self._threads += 1
        while self._threads > limit:
            self._threads -= 1
            self._queue.put(None)

    def _work(self) -> None:
        while True:
            run = self._queue.get()
            if run is None:
                return
            failure: Failure | None = None
            # In this order (and the other way round in _cut), or a run could be neither skipped nor known as a zombie.
            run.is_begun = True
            if run.ending is None:
                try:
                    run.result = result_of(run.context.run(run.call))
                except BaseException as error:  # noqa: BLE001 - a user's callable: the edge
                    failure = failure_of(error)
            with self._lock:
                is_first = not self._finished
                self._finished.append((run, failure))
            if is_first:
                # The loop may be closed by now, and then nobody waits for this run.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._collect)
            del run, failure

    def _collect(self) -> None:
        with self._lock:
            finished, self._finished = self._finished, deque()
        self._arrived.extend(finished)
        try:
            while self._arrived:
                run, failure = self._arrived.popleft()
                self._unfinished -= 1
                if run.is_zombie:
                    self._stuck_threads -= 1
                    self._staff()
                self._end(run, _outcome_of(failure), failure)
        finally:
            # A listener that raised must not keep the others from hearing of their runs.
            if self._arrived:
                self._loop.call_soon(self._collect)
