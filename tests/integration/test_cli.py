"""The command line as its user meets it: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import free_port

HERE = Path(__file__).resolve().parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sisy(redis_url: str, namespace: str, tmp_path: Path) -> Run:
    """Runs one command against this test's namespace."""
    paths = [str(HERE.parent), *([] if os.environ.get("SISY_TEST_WHEEL") == "1" else [str(HERE.parent.parent)])]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SISY_")}
    env |= {"PYTHONPATH": os.pathsep.join(paths), "SISY_REDIS_URL": redis_url, "SISY_NAMESPACE": namespace}

    def run(*arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "sisy_redis", *arguments]
        return subprocess.run(command, env=env | extra, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.usefixtures("client")
def test_a_task_is_added_listed_shown_paused_resumed_triggered_and_deleted(sisy: Run) -> None:
    added = sisy(
        "add", "0 2 * * *", "fleet.quick", "--id", "nightly", "--tz", "Europe/Berlin", "--no-overlap", "--json"
    )
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["id"] == "nightly"
    assert [row["id"] for row in json.loads(sisy("list", "--json").stdout)] == ["nightly"]
    assert "nightly" in sisy("list").stdout
    assert len(json.loads(sisy("show", "nightly", "--json").stdout)["upcoming"]) == 5
    assert sisy("pause", "nightly", "--by", "me", "--reason", "a test").returncode == 0
    assert json.loads(sisy("show", "nightly", "--json").stdout)["state"] == "paused by me"
    assert sisy("resume", "nightly").returncode == 0
    assert json.loads(sisy("trigger", "nightly", "--json").stdout)["run"].startswith("nightly:")
    assert sisy("worker", "--burst").returncode == 0
    whats = [row["what"] for row in json.loads(sisy("history", "nightly", "--json").stdout)]
    assert whats == ["failed"]
    assert json.loads(sisy("workers", "--json").stdout) == []
    assert sisy("delete", "nightly").returncode == 0
    assert json.loads(sisy("list", "--json").stdout) == []


def test_next_needs_no_redis(sisy: Run) -> None:
    shown = sisy(
        "next", "0 9 * * mon", "--tz", "Europe/Berlin", "-n", "3", "--json", SISY_REDIS_URL="redis://127.0.0.1:1/0"
    )
    assert shown.returncode == 0
    assert len(json.loads(shown.stdout)) == 3


@pytest.mark.usefixtures("client")
def test_exit_codes_say_what_went_wrong(sisy: Run) -> None:
    for code, arguments in ((2, ("next", "61 * * * *")), (2, ("nonsense",)), (4, ("show", "nobody"))):
        result = sisy(*arguments)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
    unreachable = sisy("list", SISY_REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert unreachable.returncode == 3
    assert "secret" not in unreachable.stderr and "Traceback" not in unreachable.stderr


def test_the_demo_kills_a_worker_loses_nothing_and_leaves_nothing(sisy: Run, tmp_path: Path) -> None:
    shown = sisy("demo", "--json", SISY_REDIS_URL="", HOME=str(tmp_path))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    result = json.loads(shown.stdout)
    assert result["ok"] and result["problems"] == []
    assert result["taken_over"]["from_pid"] == result["killed_pid"] != result["taken_over"]["to_pid"]
    assert len(result["actual"]["iterations"]) == 7
    for pid in (result["killed_pid"], result["taken_over"]["to_pid"]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
