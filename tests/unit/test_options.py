"""The worker's command line, its environment, and its log."""

import json
import logging
import subprocess
import sys

import pytest

from sisy_redis.worker import logs
from sisy_redis.worker.options import WorkerOptions, check_server, parse


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], env: dict[str, str] | None = None) -> str:
    """What is said about bad usage."""
    with pytest.raises(SystemExit) as left:
        parse(argv, env or {})
    assert left.value.code == 2
    return capsys.readouterr().err


def test_without_anything_the_defaults_hold() -> None:
    assert parse([], {}) == WorkerOptions(
        redis_url=None,
        namespace=None,
        imports=(),
        queues=("default",),
        concurrency=16,
        processes=1,
        burst=False,
        drain_timeout=25.0,
        lease=15.0,
        allow=(),
        embedded=False,
        log_level="info",
        log_format="text",
    )


EVERYTHING = WorkerOptions(
    redis_url="redis://h:1/0",
    namespace="shop",
    imports=("a.b", "c"),
    queues=("fast", "slow"),
    concurrency=3,
    processes=2,
    burst=True,
    drain_timeout=1.5,
    lease=2.0,
    allow=("shop.tasks", "shop.mail"),
    embedded=True,
    log_level="debug",
    log_format="json",
)


def test_each_option_can_be_given_on_the_command_line() -> None:
    argv = "--redis-url redis://h:1/0 --namespace shop --import a.b --import c --queues fast,slow --concurrency 3"
    argv += " --processes 2 --burst --drain-timeout 1.5 --lease 2 --allow shop.tasks --allow shop.mail --embedded"
    assert parse([*argv.split(), "--log-level", "debug", "--log-format", "json"], {}) == EVERYTHING


def test_each_option_can_be_given_in_the_environment() -> None:
    env = {
        "SISY_REDIS_URL": "redis://h:1/0",
        "SISY_NAMESPACE": "shop",
        "SISY_IMPORT": "a.b, c",
        "SISY_QUEUES": "fast, slow",
        "SISY_CONCURRENCY": "3",
        "SISY_PROCESSES": "2",
        "SISY_BURST": "true",
        "SISY_DRAIN_TIMEOUT": "1.5",
        "SISY_LEASE": "2",
        "SISY_ALLOW": "shop.tasks,shop.mail",
        "SISY_EMBEDDED": "1",
        "SISY_LOG_LEVEL": "DEBUG",
        "SISY_LOG_FORMAT": "json",
    }
    assert parse([], env) == EVERYTHING


def test_the_command_line_wins_over_the_environment() -> None:
    env = {"SISY_CONCURRENCY": "3", "SISY_IMPORT": "a", "SISY_LEASE": "2"}
    options = parse(["--concurrency", "4", "--import", "b"], env)
    assert (options.concurrency, options.imports, options.lease) == (4, ("b",), 2.0)


def test_an_empty_variable_counts_as_not_set() -> None:
    names = ("REDIS_URL", "QUEUES", "CONCURRENCY", "BURST", "IMPORT", "LOG_LEVEL")
    assert parse([], {f"SISY_{name}": "" for name in names}) == WorkerOptions()


def test_a_switch_can_be_turned_off_in_the_environment() -> None:
    assert not parse([], {"SISY_BURST": "false"}).burst


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--concurrency", "0"),
        ("--concurrency", "1001"),
        ("--concurrency", "many"),
        ("--concurrency", "1.5"),
        ("--processes", "0"),
        ("--lease", "0.5"),
        ("--lease", "301"),
        ("--lease", "nan"),
        ("--drain-timeout", "-1"),
        ("--queues", ","),
        ("--queues", "a b"),
        ("--queues", "a{b}"),
        ("--log-level", "loud"),
        ("--log-format", "xml"),
    ],
)
@pytest.mark.parametrize("in_env", [False, True], ids=["argument", "variable"])
def test_a_value_out_of_bounds_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], option: str, value: str, in_env: bool
) -> None:
    variable = "SISY_" + option.removeprefix("--").replace("-", "_").upper()
    said = refused(capsys, [], {variable: value}) if in_env else refused(capsys, [f"{option}={value}"])
    assert option in said


@pytest.mark.parametrize(("option", "value"), [("--concurrency", 1), ("--concurrency", 1000), ("--lease", 300)])
def test_the_bounds_themselves_are_allowed(option: str, value: int) -> None:
    assert getattr(parse([option, str(value)], {}), option.removeprefix("--")) == value


def test_an_unclear_switch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "SISY_BURST" in refused(capsys, [], {"SISY_BURST": "maybe"})


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--sped" in refused(capsys, ["--sped", "9"])


def test_in_kubernetes_a_server_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    kubernetes = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(SystemExit) as stopped:
        check_server(parse([], kubernetes), None, kubernetes)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "--redis-url" in said and "--embedded" in said
    check_server(parse(["--embedded"], kubernetes), None, kubernetes)
    check_server(parse(["--redis-url", "redis://h"], kubernetes), None, kubernetes)
    check_server(parse([], kubernetes), "redis://named-by-the-settings", kubernetes)
    check_server(parse([], {}), None, {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://user:se@cr:et@h:6379/0", "rediss://user:***@h:6379/0"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix://user:***@/run/redis.sock?db=1"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("redis://user@h:6379", "redis://user@h:6379"),
        ("redis://h:6379/0?db=1", "redis://h:6379/0?db=1"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://:secret@[::1", "(a URL that cannot be read)"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert logs.mask_password(url) == shown


LOG = """
import logging, sys
from sisy_redis.worker import logs
logs.configure("info", sys.argv[1])
log = logging.getLogger("sisy_redis.test")
log.debug("unheard")
log.info("run %s\\nended", "r1", extra={"run_id": "r1", "token": 7})
try:
    raise ValueError("bad order")
except ValueError:
    log.exception("failed")
"""


def logged(fmt: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOG, fmt], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_the_json_log_is_one_object_a_line_with_ids_as_fields() -> None:
    first, second = map(json.loads, logged("json"))
    assert (first["level"], first["logger"], first["message"]) == ("info", "sisy_redis.test", "run r1\nended")
    assert (first["run_id"], first["token"]) == ("r1", 7)
    assert first["time"].endswith("Z")
    assert second["message"] == "failed" and "ValueError: bad order" in second["error"]


def test_the_text_log_is_for_reading() -> None:
    lines = logged("text")
    assert " INFO sisy_redis.test: run r1" in lines[0] and "unheard" not in "".join(lines)
    assert lines[-1] == "ValueError: bad order"


def test_the_json_log_survives_what_json_cannot_hold() -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, "m", (), None)
    record.where = {1, 2}
    assert json.loads(logs.JsonFormatter().format(record))["where"] == "{1, 2}"
