"""The pools and the supervisor: real threads, coroutines, child processes and signals."""

import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import poll

from sisy_redis.definitions import Outcome
from sisy_redis.worker.ending import Ended
from sisy_redis.worker.pools import Pools

HERE = Path(__file__).resolve().parent
CHILD_TASKS = """
import os, signal, subprocess, sys, time

def quick(message):
    with open(message["task"]["userdata"]["journal"], "a") as f:
        f.write(f"{os.getpid()} {message['task']['id']} {message['message']['nominal'].isoformat()}")
    task = message["task"]
    assert (task.id, task.label, task.userdata) == (task["id"], task["label"], task["userdata"]) and len(task) == 3

def fails(message):
    raise LookupError("no such order")

def exits(message):
    raise SystemExit(3)

def dies(message):
    os.kill(os.getpid(), signal.SIGKILL)

async def coroutine(message):
    raise LookupError("from a coroutine")

def adds(journal, text):
    print("noise on standard output")
    with open(journal, "a") as f:
        f.write(text)

def settings(message):
    from sisy_redis import context, settings
    now, run = settings.current(), context.current_run.get()
    with open(message["task"]["userdata"]["journal"], "a") as f:
        f.write(f"{now.redis_url} {now.namespace} {now.partitions} {run.run_id} {run.token} {run.boot} {run.task_id}")

def changes(message):
    message["task"]["id"] = "another"

def hangs(message):
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(message["task"]["userdata"]["journal"], "a") as f:
        f.write(f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """False for a process that is gone, or dead and only waits for whoever adopted it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


class Bench:
    """Pools on a loop of the test's own; ``ended`` lists what ``on_end`` heard, and each call is checked."""

    def __init__(self, threads: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.home = threading.get_ident()
        self.pools = Pools(self.loop, threads)
        self.ended: list[tuple[str, Ended]] = []

    def heard(self, key: str, ended: Ended) -> None:
        assert threading.get_ident() == self.home, "on_end belongs on the event loop"
        self.ended.append((key, ended))

    def start(self, key: str, call: Callable[[], Any], *, timeout_ms: int = 0) -> None:
        is_coroutine = asyncio.iscoroutinefunction(call)
        self.pools.start(key, call, is_coroutine=is_coroutine, timeout_ms=timeout_ms, on_end=self.heard)

    def start_process(self, request: dict[str, Any], *, timeout_ms: int = 0) -> None:
        self.pools.start_process("p", request, timeout_ms=timeout_ms, on_end=self.heard)

    async def until(self, condition: Callable[[], object], timeout: float = 15.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.005)

    async def end_of(self, key: str, timeout: float = 15.0) -> Ended:
        await self.until(lambda: key in dict(self.ended), timeout)
        found = [ended for k, ended in self.ended if k == key]
        assert len(found) == 1, f"{key} ended {len(found)} times"
        return found[0]


def bench(scenario: Callable[[Bench], Any], threads: int = 2) -> None:
    """Runs a scenario; at its end every run must have ended exactly once."""

    async def go() -> None:
        b = Bench(threads)
        try:
            await scenario(b)
        finally:
            b.pools.close()
        keys = [key for key, _ in b.ended]
        assert len(keys) == len(set(keys)), "a run ended twice"

    asyncio.run(go())


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What stuck threads wait for; opened after the test."""
    event = threading.Event()
    yield event
    event.set()


# --- threads ----------------------------------------------------------------------------------------------------------


def test_ten_thousand_thread_runs_all_end_once() -> None:
    async def scenario(b: Bench) -> None:
        for i in range(10_000):
            b.start(str(i), int)
        await b.until(lambda: len(b.ended) == 10_000, 60)
        assert {ended.outcome for _, ended in b.ended} == {Outcome.OK}
        assert len(dict(b.ended)) == 10_000
        assert b.pools.active == 0 and b.pools.zombies == 0

    bench(scenario, threads=8)


def test_threads_never_run_more_at_once_than_asked_for() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.01)
        with lock:
            running[0] -= 1

    async def scenario(b: Bench) -> None:
        for i in range(60):
            b.start(str(i), work)
        await b.until(lambda: len(b.ended) == 60)
        assert most[0] == 3

    bench(scenario, threads=3)


@pytest.mark.parametrize(
    "error", [ValueError("bad order"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
@pytest.mark.parametrize("is_coroutine", [False, True], ids=["thread", "coroutine"])
def test_whatever_a_callable_raises_fails_the_run_and_nothing_else(error: BaseException, is_coroutine: bool) -> None:
    def raises() -> None:
        raise error

    async def raises_on_the_loop() -> None:
        raise error

    async def scenario(b: Bench) -> None:
        b.start("bad", raises_on_the_loop if is_coroutine else raises)
        ended = await b.end_of("bad")
        assert ended.outcome is Outcome.FAILED
        assert ended.raised[0].endswith(type(error).__name__)
        assert ended.raised[0].rpartition(".")[2] in ended.error
        b.start("next", int)
        assert (await b.end_of("next")).outcome is Outcome.OK

    bench(scenario, threads=1)


def test_a_traceback_starts_at_the_users_frame_and_keeps_within_four_kib() -> None:
    def raises() -> None:
        raise ValueError("é" * 10_000)

    def short() -> None:
        raise ValueError("bad order")

    async def scenario(b: Bench) -> None:
        b.start("long", raises)
        b.start("short", short)
        long, brief = (await b.end_of("long")).error, (await b.end_of("short")).error
        assert len(long.encode()) <= 4096
        assert "worker/pools.py" not in brief and "in short" in brief.splitlines()[1]
        assert brief.rstrip().endswith("ValueError: bad order")

    bench(scenario)


def test_a_thread_sees_the_context_it_was_started_in_and_cannot_change_it() -> None:
    word = contextvars.ContextVar("word", default="nothing")
    seen: list[str] = []

    def look() -> None:
        seen.append(word.get())
        word.set("changed")

    async def scenario(b: Bench) -> None:
        word.set("given")
        b.start("1", look)
        await b.end_of("1")
        b.start("2", look)
        await b.end_of("2")
        assert seen == ["given", "given"] and word.get() == "given"

    bench(scenario, threads=1)


def test_a_timed_out_thread_run_ends_at_once_and_its_late_result_is_ignored(gate: threading.Event) -> None:
    async def scenario(b: Bench) -> None:
        b.start("stuck", gate.wait, timeout_ms=100)
        ended = await b.end_of("stuck", 2)
        assert ended.outcome is Outcome.TIMEOUT and 0.09 <= ended.seconds < 1
        assert b.pools.zombies == 1 and b.pools.active == 0
        gate.set()
        await b.until(lambda: b.pools.zombies == 0)
        assert len(b.ended) == 1

    bench(scenario, threads=1)


def test_a_cancelled_thread_run_ends_cancelled(gate: threading.Event) -> None:
    async def scenario(b: Bench) -> None:
        b.start("stuck", gate.wait)
        b.pools.cancel("stuck", "as asked")
        assert (await b.end_of("stuck", 1)).outcome is Outcome.CANCELLED
        b.pools.cancel("stuck", "as asked")
        b.pools.cancel("never started", "as asked")

    bench(scenario, threads=1)


def test_a_stuck_thread_is_replaced_also_for_runs_that_wait_already(gate: threading.Event) -> None:
    async def scenario(b: Bench) -> None:
        b.start("first", int)
        b.start("stuck", gate.wait, timeout_ms=100)
        b.start("behind", int)
        assert (await b.end_of("stuck", 5)).outcome is Outcome.TIMEOUT
        assert (await b.end_of("behind", 5)).outcome is Outcome.OK
        b.start("later", int)
        assert (await b.end_of("later", 5)).outcome is Outcome.OK

    bench(scenario, threads=1)


def test_stuck_threads_are_replaced_up_to_a_bound(gate: threading.Event) -> None:
    begun: list[int] = []

    async def scenario(b: Bench) -> None:
        before = threading.active_count()
        for i in range(33):
            b.start(str(i), lambda i=i: (begun.append(i), gate.wait()))
            await b.until(lambda i=i: i in begun)
            b.pools.cancel(str(i), "as asked")
        assert b.pools.zombies == 33
        assert b.pools.active == 1, "a zombie beyond the bound takes a slot"
        b.start("too many", int, timeout_ms=100)
        assert (await b.end_of("too many")).outcome is Outcome.TIMEOUT
        assert threading.active_count() - before <= 33
        gate.set()
        await b.until(lambda: b.pools.zombies == 0)
        assert b.pools.active == 0
        await b.until(lambda: threading.active_count() - before <= 1)

    bench(scenario, threads=1)


def test_a_run_cancelled_before_a_thread_took_it_is_never_called(gate: threading.Event) -> None:
    called: list[str] = []

    async def scenario(b: Bench) -> None:
        b.start("busy", gate.wait)
        for i in range(20):
            b.start(str(i), lambda: called.append("called"))
            b.pools.cancel(str(i), "as asked")
        assert b.pools.zombies == 0 and len(b.ended) == 20
        gate.set()
        await b.end_of("busy")
        b.start("last", int)
        await b.end_of("last")
        assert called == []

    bench(scenario, threads=1)


def test_a_failing_listener_does_not_keep_other_ends_from_being_heard() -> None:
    def fails(_key: str, _ended: Ended) -> None:
        raise RuntimeError("a listener's own mistake")

    async def scenario(b: Bench) -> None:
        reported: list[object] = []
        b.loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
        for i in range(20):
            b.pools.start(f"x{i}", int, is_coroutine=False, timeout_ms=0, on_end=fails)
            b.start(str(i), int)
        await b.until(lambda: len(b.ended) == 20 and len(reported) == 20)

    bench(scenario, threads=1)


def test_closing_ends_every_run(gate: threading.Event) -> None:
    async def wait() -> None:
        await asyncio.sleep(600)

    async def scenario(b: Bench) -> None:
        b.start("thread", gate.wait)
        b.start("coroutine", wait)
        b.start("waiting", int)
        b.pools.close()
        for key in ("thread", "coroutine", "waiting"):
            assert (await b.end_of(key)).outcome is Outcome.CANCELLED

    bench(scenario, threads=1)


# --- coroutines -------------------------------------------------------------------------------------------------------


def test_a_coroutine_is_cancelled_at_its_timeout() -> None:
    told = []

    async def slow() -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            told.append(True)
            raise

    async def scenario(b: Bench) -> None:
        b.start("slow", slow, timeout_ms=50)
        ended = await b.end_of("slow", 0.9)
        assert ended.outcome is Outcome.TIMEOUT and ended.error and told == [True]

    bench(scenario)


def test_a_coroutine_that_swallows_its_cancellation_is_ended_for_the_schedule() -> None:
    async def scenario(b: Bench) -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()

        b.start("stubborn", stubborn, timeout_ms=50)
        ended = await b.end_of("stubborn", 5)
        assert ended.outcome is Outcome.TIMEOUT and 1 <= ended.seconds < 4
        assert b.pools.active == 0 and b.pools.zombies == 1
        release.set()
        await b.until(lambda: b.pools.zombies == 0)
        assert len(b.ended) == 1

    bench(scenario)


def test_a_coroutine_that_ends_well_after_its_cancellation_still_timed_out() -> None:
    async def tidy() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(600)
        return "tidied up"

    async def scenario(b: Bench) -> None:
        b.start("tidy", tidy, timeout_ms=50)
        assert (await b.end_of("tidy", 0.9)).outcome is Outcome.TIMEOUT

    bench(scenario)


def test_a_coroutine_cancelled_before_its_first_step_ends_at_once() -> None:
    async def never() -> None:
        raise AssertionError("it was cancelled before it began")

    async def scenario(b: Bench) -> None:
        b.start("never", never)
        b.pools.cancel("never", "as asked")
        assert (await b.end_of("never", 0.9)).outcome is Outcome.CANCELLED

    bench(scenario)


# --- child processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def request_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Builds requests for callables of a module that only children import."""
    (tmp_path / "child_tasks.py").write_text(CHILD_TASKS)
    package_root = str(HERE.parent.parent)
    known = [package_root] if os.environ.get("SISY_TEST_WHEEL") != "1" else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *known]))

    def build(name: str, *, takes_message: bool = True, **userdata: object) -> dict[str, Any]:
        info = {"func_type": "function", "module_name": "child_tasks", "func_name": name}
        nominal = "2026-03-01T02:00:00+00:00"
        return {
            "funcinfo": info | {"func_path": f"child_tasks.{name}", "takes_message": takes_message},
            "imports": ["child_tasks"],
            "task": {"id": "t1", "label": "T", "userdata": userdata},
            "message": {"run_id": "t1:1:2", "nominal": nominal, "previous": None, "attempt": 1, "token": 7},
            "settings": {"redis_url": "redis://127.0.0.1:1/0", "namespace": "elsewhere", "partitions": 3},
            "run": {"run_id": "t1:1:2", "token": 7, "boot": "9", "task_id": "t1"},
        }

    return build


Build = Callable[..., dict[str, Any]]


def test_a_process_run_speaks_to_the_redis_of_its_worker_and_under_its_token(
    request_for: Build, tmp_path: Path
) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for("settings", journal=str(tmp_path / "journal")))
        assert (await b.end_of("p")).error == ""
        assert (tmp_path / "journal").read_text() == "redis://127.0.0.1:1/0 elsewhere 3 t1:1:2 7 9 t1"

    bench(scenario)


def test_a_process_run_gets_its_data_in_another_process(request_for: Build, tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for("quick", journal=str(tmp_path / "journal")))
        ended = await b.end_of("p")
        assert (ended.outcome, ended.error) == (Outcome.OK, "")
        pid, task_id, nominal = (tmp_path / "journal").read_text().split()
        assert int(pid) != os.getpid() and task_id == "t1" and nominal == "2026-03-01T02:00:00+00:00"

    bench(scenario)


def test_a_process_run_may_print_and_take_userdata_as_arguments(request_for: Build, tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for("adds", takes_message=False, journal=str(tmp_path / "journal"), text="ü"))
        assert (await b.end_of("p")).outcome is Outcome.OK
        assert (tmp_path / "journal").read_text() == "ü"

    bench(scenario)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "LookupError: no such order"),
        ("exits", "SystemExit: 3"),
        ("coroutine", "LookupError: from a coroutine"),
        ("changes", "does not support item assignment"),
        ("dies", "-9"),
        ("absent", "absent is not a member of child_tasks"),
    ],
)
def test_a_process_run_that_goes_wrong_fails_with_its_reason(request_for: Build, name: str, said: str) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for(name))
        ended = await b.end_of("p")
        assert ended.outcome is Outcome.FAILED and said in ended.error

    bench(scenario)


@pytest.mark.parametrize("how", [Outcome.TIMEOUT, Outcome.CANCELLED])
def test_a_hanging_process_run_is_killed_with_all_it_started(request_for: Build, tmp_path: Path, how: Outcome) -> None:
    async def scenario(b: Bench) -> None:
        journal = tmp_path / "journal"
        b.start_process(request_for("hangs", journal=str(journal)), timeout_ms=3000 if how is Outcome.TIMEOUT else 0)
        await b.until(lambda: journal.exists() and len(journal.read_text().split()) == 2)
        child, grandchild = map(int, journal.read_text().split())
        assert is_alive(child) and is_alive(grandchild)
        if how is Outcome.CANCELLED:
            b.pools.cancel("p", "as asked")
        assert (await b.end_of("p")).outcome is how
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        await b.until(lambda: not is_alive(grandchild), 5)

    bench(scenario)


def test_a_process_run_cancelled_while_its_child_starts_leaves_nothing(request_for: Build, tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for("hangs", journal=str(tmp_path / "journal")))
        await asyncio.sleep(0)
        b.pools.cancel("p", "as asked")
        assert (await b.end_of("p")).outcome is Outcome.CANCELLED
        children = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
        assert "sisy_redis.worker.child" not in children.stdout

    bench(scenario)


def test_a_request_that_is_no_json_fails_the_run(request_for: Build) -> None:
    async def scenario(b: Bench) -> None:
        b.start_process(request_for("quick", journal=object()))
        ended = await b.end_of("p")
        assert ended.outcome is Outcome.FAILED and "JSON" in ended.error

    bench(scenario)


def test_a_child_dies_with_its_worker(request_for: Build, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    program = textwrap.dedent("""
        import asyncio, json, sys
        from sisy_redis.worker.pools import Pools

        async def main():
            pools = Pools(asyncio.get_running_loop(), 1)
            pools.start_process("p", json.loads(sys.argv[1]), timeout_ms=0, on_end=print)
            await asyncio.sleep(600)

        asyncio.run(main())
    """)
    request = json.dumps(request_for("hangs", journal=str(journal)))
    worker = subprocess.Popen([sys.executable, "-c", program, request])
    try:
        poll(lambda: journal.exists() and len(journal.read_text().split()) == 2)
        child, grandchild = map(int, journal.read_text().split())
        worker.kill()
        worker.wait()
        poll(lambda: not is_alive(child), 5)
    finally:
        worker.kill()
        worker.wait()
        with suppress(ProcessLookupError, UnboundLocalError):
            os.kill(grandchild, signal.SIGKILL)


# --- the supervisor ---------------------------------------------------------------------------------------------------

SUPERVISE = (
    "import sys; from sisy_redis.worker import supervisor; sys.exit(supervisor.run(int(sys.argv[1]), sys.argv[2:]))"
)
NOTE = "import os, sys; f = open(sys.argv[1], 'a'); print(os.getpid(), file=f, flush=True)\n"
SLEEP = NOTE + "import time; time.sleep(600)"
POLITE = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\n" + SLEEP
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP


class Supervised:
    """A supervisor in a process of its own; ``pids`` are the children's, in the order they started."""

    def __init__(self, journal: Path, count: int, code: str) -> None:
        command = [sys.executable, "-c", code, str(journal)]
        self._journal = journal
        self.process = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(count), *command])

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._journal.read_text().split()] if self._journal.exists() else []

    def wait_for(self, count: int) -> list[int]:
        poll(lambda: len(self.pids) >= count)
        return self.pids


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[int, str], Supervised]]:
    started: list[Supervised] = []

    def go(count: int, code: str) -> Supervised:
        started.append(Supervised(tmp_path / "pids", count, code))
        return started[-1]

    yield go
    for one in started:
        one.process.kill()
        one.process.wait()
        for pid in one.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


Supervise = Callable[[int, str], Supervised]


def test_a_killed_child_is_started_again(supervise: Supervise) -> None:
    one = supervise(2, POLITE)
    first = one.wait_for(2)
    os.kill(first[0], signal.SIGKILL)
    pids = one.wait_for(3)
    assert len(set(pids)) == 3
    assert is_alive(first[1]) and is_alive(pids[2])
    one.process.terminate()
    assert one.process.wait(10) == 0
    assert not any(map(is_alive, pids))


def test_the_supervisor_ends_well_when_all_children_did(supervise: Supervise) -> None:
    one = supervise(3, NOTE)
    assert one.process.wait(15) == 0
    assert len(one.pids) == 3, "a child that ended well is not started again"


def test_a_child_that_keeps_failing_is_started_ever_more_slowly(supervise: Supervise) -> None:
    one = supervise(1, NOTE + "sys.exit(1)")
    one.wait_for(3)
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(2)
    assert len(one.pids) == 3, "after pauses of 1 s and 2 s the third one lasts 4 s"
    one.process.terminate()
    assert one.process.wait(10) == 0


def test_a_second_signal_kills_children_that_do_not_listen(supervise: Supervise) -> None:
    one = supervise(2, DEAF)
    pids = one.wait_for(2)
    one.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(0.5)
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(5) != 0
    assert not any(map(is_alive, pids))


def test_children_are_told_when_the_supervisor_itself_is_killed(supervise: Supervise) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent died")
    one = supervise(2, POLITE)
    pids = one.wait_for(2)
    one.process.kill()
    one.process.wait()
    poll(lambda: not any(map(is_alive, pids)), 5)


def test_a_waiting_supervisor_uses_no_processor(supervise: Supervise) -> None:
    one = supervise(1, POLITE)
    one.wait_for(1)

    def used() -> str:
        return subprocess.run(
            ["ps", "-o", "cputimes=", "-p", str(one.process.pid)], capture_output=True, text=True
        ).stdout.strip()

    before = used()
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(1.5)
    assert int(used()) - int(before) <= 0
