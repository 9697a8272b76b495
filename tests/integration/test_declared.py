"""What a worker makes of a module that declares tasks: it saves and runs them, and calls what belongs to them."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import poll

from sisy_redis import Scheduler

HEADER = """
import asyncio, functools, os, time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from sisy_redis import Scheduler, StaleToken, Task

scheduler = Scheduler()
once = {"every": timedelta(days=1), "wait_for_schedule": False, "iterations": 1}

def note(text):
    with open(os.environ["NOTES"], "a") as file:
        file.write(text + "\\n")
"""


class Declared:
    """A worker of a module, and what was noted by it."""

    def __init__(self, folder: Path, url: str, namespace: str, code: str, *options: str) -> None:
        (folder / "declaring.py").write_text(HEADER + code)
        self._notes = folder / "notes"
        environment = dict(os.environ, NOTES=str(self._notes), PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))
        command = [sys.executable, "-m", "sisy_redis.worker", "--redis-url", url, "--namespace", namespace]
        self.process = subprocess.Popen([*command, "--import", "declaring", *options], env=environment, cwd=folder)

    @property
    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines() if self._notes.exists() else []

    def until(self, *wanted: str) -> None:
        poll(lambda: not Counter(wanted) - Counter(self.notes), what=f"the notes {wanted}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Declare = Callable[..., Declared]


@pytest.fixture
def declare(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Declare]:
    started: list[Declared] = []

    def start(code: str, *options: str) -> Declared:
        started.append(Declared(tmp_path, redis_url, namespace, code, *options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def scheduler(redis_url: str, namespace: str) -> Iterator[Scheduler]:
    with Scheduler(redis_url, namespace) as opened:
        yield opened


def test_a_worker_runs_what_an_imported_module_declares(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
def well(message):
    note("well " + message["task"].id)

async def badly(message):
    note("badly " + message["task"].id)

@scheduler.task(id="plain", on_success=well, **once)
def plain(message):
    message["task"].userdata["n"] = 1
    message["task"].save()
    note("plain")

@scheduler.task(id="coroutine", userdata={"a": 2}, **once)
async def coroutine(a):
    note(f"coroutine {a}")

@scheduler.task(id="failing", on_failure=badly, **once)
def failing(message):
    raise RuntimeError("as it should")

@scheduler.on_worker_start
def begin():
    note("begin")

@scheduler.on_worker_stop
async def end():
    note("end")
""")
    worker.until("begin", "plain", "well plain", "coroutine 2", "badly failing")
    assert worker.stop() == 0
    assert sorted(worker.notes) == sorted(["begin", "plain", "well plain", "coroutine 2", "badly failing", "end"])
    assert (worker.notes[0], worker.notes[-1]) == ("begin", "end")
    (failure,) = [entry for entry in scheduler.history("failing") if entry.kind == "run"]
    assert failure.what == "failed" and "as it should" in failure.error


def test_callbacks_hear_of_a_run_once_when_it_has_ended(declare: Declare) -> None:
    worker = declare("""
def heard(message):
    note(f"heard {message['message']['attempt']}")

@scheduler.task(id="third-time-lucky", retry=3, on_success=heard, on_failure=heard, **once)
def third_time_lucky(message):
    note("tried")
    if message["message"]["attempt"] < 3:
        raise RuntimeError("not yet")

@scheduler.task(id="never", retry=2, on_failure=lambda message: note("given up"), **once)
def never(message):
    raise RuntimeError("never")
""")
    worker.until("tried", "tried", "tried", "heard 3", "given up")
    assert worker.stop() == 0
    assert Counter(worker.notes) == {"tried": 3, "heard 3": 1, "given up": 1}


def test_each_task_of_a_function_has_callbacks_of_its_own(declare: Declare) -> None:
    worker = declare("""
@scheduler.task(id="a", on_success=lambda message: note("a " + message["task"].id), **once)
@scheduler.task(id="b", on_success=lambda message: note("b " + message["task"].id), **once)
def work(message):
    pass
""")
    worker.until("a a", "b b")
    assert worker.stop() == 0
    assert sorted(worker.notes) == ["a a", "b b"]


def test_a_callback_may_save_its_task(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
def count(message):
    task = message["task"]
    task.userdata["seen"] = True
    task.save()
    note("saved " + task.id)

@scheduler.task(id="coroutine", every=timedelta(days=1), wait_for_schedule=False, on_success=count)
async def coroutine(message):
    pass

@scheduler.task(id="plain", every=timedelta(days=1), wait_for_schedule=False, on_success=count)
def plain(message):
    pass
""")
    worker.until("saved coroutine", "saved plain")
    assert [scheduler.get(task_id).userdata for task_id in ("coroutine", "plain")] == [{"seen": True}] * 2


@pytest.mark.parametrize("options", [(), ("--burst",)], ids=["SIGTERM", "burst"])
def test_a_worker_that_stops_lets_its_callbacks_finish(declare: Declare, options: tuple[str, ...]) -> None:
    worker = declare(
        """
async def slowly(message):
    note("begun")
    await asyncio.sleep(1)
    note("finished")

@scheduler.task(id="quick", on_success=slowly, **once)
async def quick(message):
    pass

@scheduler.on_worker_stop
def end():
    note("end")
""",
        *options,
    )
    worker.until("begun")
    assert (worker.process.wait(20) if options else worker.stop()) == 0
    assert worker.notes == ["begun", "finished", "end"]


def test_a_coroutine_behind_a_wrapper_runs_to_its_end(declare: Declare) -> None:
    worker = declare("""
def wrapped(func):
    @functools.wraps(func)
    def call(*arguments, **named):
        return func(*arguments, **named)
    return call

@scheduler.task(id="wrapped", **once)
@wrapped
async def work(message):
    await asyncio.sleep(0.01)
    note("ran")
""")
    worker.until("ran")


def test_a_run_that_has_ended_cannot_save_its_task_from_a_thread_of_its_own(declare: Declare) -> None:
    worker = declare("""
pool = ThreadPoolExecutor(1)

def late(task):
    time.sleep(1)
    task.userdata["late"] = True
    try:
        task.save()
    except StaleToken:
        note("refused")

@scheduler.task(id="leaves-a-thread", every=timedelta(days=1), wait_for_schedule=False)
def work(message):
    message["task"].userdata["in time"] = True
    pool.submit(message["task"].save).result()
    note("saved")
    pool.submit(late, message["task"])
""")
    worker.until("saved", "refused")


def test_a_process_run_saves_other_tasks_where_its_worker_serves(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
@scheduler.task(id="parent", pool="process", **once)
def parent(message):
    Task.run_once("declaring.child")

def child(message):
    note("child ran")
""")
    worker.until("child ran")


def test_the_message_holds_what_is_promised(declare: Declare) -> None:
    worker = declare("""
@scheduler.task(id="twice", every=timedelta(seconds=1), iterations=2)
def twice(message):
    details = message["message"]
    assert details is message["channel_message"] and message["task"].id == "twice"
    try:
        details["token"] = 0
    except TypeError:
        note("read-only")
    assert sorted(details) == ["attempt", "interval", "lateness", "nominal", "previous", "run_id", "token", "worker"]
    assert details["nominal"].utcoffset() == timedelta(0) and 0 <= details["lateness"] < 60
    assert details["worker"].endswith(f":{os.getpid()}")
    assert details["interval"] == (details["previous"], details["nominal"])
    gap = details["previous"] and details["nominal"] - details["previous"]
    note(f"after {gap}")
    task = message["task"]
    assert details["token"] > task.userdata.get("token", 0)
    task.userdata["token"] = details["token"]
    task.save()
    note("saved")
""")
    worker.until("read-only", "read-only", "after None", "after 0:00:01", "saved", "saved")


def test_with_an_allow_list_what_is_registered_runs_too(declare: Declare) -> None:
    worker = declare(
        """
@scheduler.task(id="registered", userdata={"a": 1}, **once)
def registered(a):
    note(f"registered {a}")
""",
        "--allow",
        "somewhere.else",
    )
    worker.until("registered 1")


def test_a_callable_with_parameters_runs_only_where_it_is_registered_or_allowed(
    declare: Declare, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "plainly.py").write_text("def add(a):\n    import declaring\n    declaring.note(f'added {a}')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    scheduler.save("plainly.add", id="add", schedule="@once", userdata={"a": 2})
    declare("")
    view = poll(lambda: (v := scheduler.get("add")).unroutable and v)
    assert "register" in str(view.unroutable)
    declare("", "--allow", "plainly").until("added 2")


# --- what a callable says of its own run ------------------------------------------------------------------------------


def test_a_callable_may_ask_for_a_retry_or_give_up(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
from sisy_redis import Discard, Retry

@scheduler.task(id="again", **once)
def again(message):
    note(f"again {message['message']['attempt']}")
    if message["message"]["attempt"] < 3:
        raise Retry("not yet", after=0.1)

@scheduler.task(id="bounded", retry=2, **once)
async def bounded(message):
    note("bounded")
    raise Retry(after=timedelta(milliseconds=50))

@scheduler.task(id="over", retry=5, on_failure=lambda message: note("must not be called"), **once)
def over(message):
    raise Discard("nothing to do")
""")
    worker.until("again 3", "bounded", "bounded")

    def ends(task_id: str) -> list[str]:
        return [entry.what for entry in scheduler.history(task_id) if entry.kind == "run"]

    poll(lambda: ends("again") == ["ok", "retry", "retry"])
    poll(lambda: ends("bounded") == ["failed", "retry"])
    poll(lambda: ends("over") == ["cancelled"])
    assert "nothing to do" in scheduler.history("over")[-1].error
    assert [run.task_id for run in scheduler.dead()] == ["bounded"]
    assert worker.stop() == 0
    assert Counter(worker.notes) == {"again 1": 1, "again 2": 1, "again 3": 1, "bounded": 2}


def test_retries_keep_to_the_exceptions_they_name(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
from sisy_redis import Retrying

class Flaky(ConnectionError):
    pass

@scheduler.task(id="on", retry=Retrying(2, on=ConnectionError), **once)
def on(message):
    note("on")
    raise Flaky("a subclass counts")

@scheduler.task(id="not-on", retry={"attempts": 2, "on": "ConnectionError"}, **once)
def not_on(message):
    note("not on")
    raise ValueError("no")

@scheduler.task(id="never", retry=Retrying(3, never=["declaring.Flaky"]), **once)
def never(message):
    note("never")
    raise Flaky()
""")
    worker.until("on", "on", "not on", "never")
    poll(lambda: {run.task_id for run in scheduler.dead()} == {"on", "not-on", "never"})
    assert worker.stop() == 0
    assert Counter(worker.notes) == {"on": 2, "not on": 1, "never": 1}


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_a_small_result_is_kept_with_its_run(declare: Declare, scheduler: Scheduler, pool: str) -> None:
    declare(f"""
@scheduler.task(id="small", pool={pool!r}, **once)
def small(message):
    return {{"rows": 3}}

@scheduler.task(id="large", pool={pool!r}, **once)
def large(message):
    return "x" * 5000

@scheduler.task(id="odd", pool={pool!r}, **once)
def odd(message):
    return object()
""")

    def result(task_id: str) -> str:
        found = poll(lambda: [entry for entry in scheduler.history(task_id) if entry.what == "ok"])
        return found[0].result

    assert result("small") == '{"rows": 3}'
    assert "more than the 4096" in result("large") and "no JSON" in result("odd")


CANCELLED = {
    "coroutine": "async def work(message):\n    note('begun')\n    await asyncio.sleep(600)",
    "process": "def work(message):\n    note('begun')\n    time.sleep(600)",
    "thread": (
        "def work(message):\n    from sisy_redis import Cancelled, cancel_requested\n    note('begun')\n"
        "    while not cancel_requested():\n        time.sleep(0.01)\n    raise Cancelled('as asked')"
    ),
}


@pytest.mark.parametrize("kind", CANCELLED)
def test_a_run_is_cancelled_from_anywhere(declare: Declare, scheduler: Scheduler, kind: str) -> None:
    pool = "process" if kind == "process" else "thread"
    worker = declare(f"\n@scheduler.task(id='long', pool={pool!r}, overlap='skip', **once)\n{CANCELLED[kind]}\n")
    worker.until("begun")
    (run,) = scheduler.runs("long")
    assert scheduler.cancel(run.run_id, by="me", reason="enough") == "requested"
    poll(
        lambda: [entry for entry in scheduler.history("long") if entry.what == "cancelled"],
        4,
        "before the next renewal",
    )
    assert scheduler.cancel(run.run_id) == "gone"
    assert scheduler.runs("long") == []


def test_a_new_occurrence_ends_the_other(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
@scheduler.task(id="latest", every=timedelta(seconds=1), overlap="cancel_other", iterations=2)
async def latest(message):
    note("begun")
    await asyncio.sleep(600 if message["task"].iterations_left else 0)
""")
    worker.until("begun", "begun")
    ends = poll(lambda: [e.what for e in scheduler.history("latest") if e.kind == "run"])
    assert ends[-1] == "cancelled"


def test_progress_is_shown_while_a_run_goes_on(declare: Declare, scheduler: Scheduler) -> None:
    declare("""
from sisy_redis import report_progress

@scheduler.task(id="long", **once)
def long(message):
    report_progress("3 of 7")
    note("said")
    time.sleep(600)
""").until("said")
    (run,) = scheduler.runs("long")
    assert run.progress == "3 of 7" and run.worker and run.attempt == 1
    assert any("3 of 7" in reason for reason in scheduler.explain("long").reasons)


def test_a_coroutine_that_is_ended_is_told_why(declare: Declare, scheduler: Scheduler) -> None:
    worker = declare("""
@scheduler.task(id="late", timeout=0.2, **once)
async def late(message):
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError as told:
        note(str(told))
        raise

@scheduler.task(id="unwanted", **once)
async def unwanted(message):
    try:
        note("begun")
        await asyncio.sleep(600)
    except asyncio.CancelledError as told:
        note(str(told))
        raise
""")
    worker.until("it ran longer than its timeout", "begun")
    (run,) = scheduler.runs("unwanted")
    scheduler.cancel(run.run_id)
    worker.until("somebody asked for its end")


def test_a_worker_imports_nothing_that_its_allow_list_bars(
    declare: Declare, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noted = tmp_path / "imported"
    code = (
        f"import os\nif os.environ.get('NOTES'):\n    open({str(noted)!r}, 'w').close()\ndef work(message):\n    pass\n"
    )
    (tmp_path / "barred.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    scheduler.save("barred.work", id="barred", schedule="@once")
    declare("", "--allow", "somewhere.else")
    view = poll(lambda: (v := scheduler.get("barred")).unroutable and v)
    assert "under none of the allowed prefixes" in str(view.unroutable) and not noted.exists()
