"""A password or secret key that the environment gives is seen in no process list, log or error."""

import asyncio
import logging
import shutil
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import acl
import fleet
import pytest
import redis
from producer import Producer
from servers import free_port
from waiting import poll

from sisy_redis import AsyncScheduler, Scheduler, SettingsError, settings
from sisy_redis.definitions import Pool

KEY = "secret-key-9f4c2e71aa03"
SECRETS = (acl.PASSWORD, KEY)
Start = Callable[..., fleet.Worker]


@pytest.fixture
def secret_url(redis_url: str, client: redis.Redis) -> str:
    acl.create(client, "~sisy:{*", user=f"{acl.USER}-secret")
    return acl.url_of(redis_url, f"{acl.USER}-secret")


def family(root: int) -> dict[int, str]:
    """The command lines of a process and of all its descendants, as everybody on the machine can read them."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    parents = {int(row[0]): int(row[1]) for row in rows}
    lines = {int(row[0]): row[2] if len(row) > 2 else "" for row in rows}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: lines[pid] for pid in found if pid in lines}


def shows(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_no_process_of_a_worker_shows_a_secret_nor_does_its_log(
    secret_url: str, namespace: str, start: Start, tmp_path: Path
) -> None:
    settings.configure(secret_key=KEY)
    try:
        producer = Producer(secret_url, namespace, tmp_path / "journal")
        with Scheduler(secret_url, namespace) as scheduler:
            scheduler.save(producer.definition("long", "forever", schedule="@once", pool=Pool.PROCESS))
            scheduler.save(producer.definition("failing", "failing", schedule="* * * * * *"))
            environment = {"SISY_REDIS_URL": secret_url, "SISY_SECRET_KEY": KEY}
            options = ("--processes", "2", "--log-level", "debug", "--drain-timeout", "0")
            worker = start(*options, url=None, env=environment)
            poll(lambda: producer.rows("long") and producer.rows("failing"), 60)
            lines = family(worker.pid)
            # The supervisor, its two workers, and the child that runs the one run.
            assert sum("sisy_redis.worker.child" in line for line in lines.values()) == 1
            assert sum("--processes" in line for line in lines.values()) >= 3
            assert [line for line in lines.values() if shows(line)] == []
            poll(lambda: any(entry.error for entry in scheduler.history("failing")), 30)
            assert not shows("".join(entry.error for entry in scheduler.history("failing")))
            worker.stop()
            assert ":***@" in worker.output and not shows(worker.output)
        producer.transport.close()
    finally:
        settings.configure(secret_key=None)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_worker_whose_password_is_refused_shows_it_nowhere(
    secret_url: str, start: Start, client: redis.Redis, log_format: str
) -> None:
    client.execute_command("ACL", "SETUSER", f"{acl.USER}-secret", "resetpass", ">another")
    worker = start("--log-level", "debug", "--log-format", log_format, url=None, env={"SISY_REDIS_URL": secret_url})
    assert worker.process.wait(60) == 2
    assert "refused the user or password" in worker.output and not shows(worker.output)


def raised_by(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Everything an error of both faces shows, and the log, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    shown = ""

    async def find() -> None:
        async with AsyncScheduler(url) as scheduler:
            await scheduler.find()

    with Scheduler(url) as scheduler:
        for attempt in (scheduler.find, lambda: asyncio.run(find())):
            with pytest.raises(SettingsError) as raised:
                attempt()  # type: ignore[operator]
            shown += "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    return shown + caplog.text


def test_a_refused_password_shows_in_no_error_or_log_of_a_client(
    secret_url: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.execute_command("ACL", "SETUSER", f"{acl.USER}-secret", "resetpass", ">another")
    assert not shows(raised_by(secret_url, caplog))


def test_a_worker_that_waits_for_its_server_shows_no_password(start: Start) -> None:
    url = f"redis://user:{acl.PASSWORD}@127.0.0.1:{free_port()}/0"
    worker = start("--log-level", "debug", url=None, env={"SISY_REDIS_URL": url})
    poll(lambda: "waiting for it" in worker.output, 60)
    assert not shows(worker.output)


def test_the_settings_show_no_secret() -> None:
    held = settings.Settings(redis_url=f"redis://user:{acl.PASSWORD}@h/0", secret_key=KEY)  # type: ignore[arg-type]
    assert not shows(repr(held) + str(held))
    with pytest.raises(SettingsError) as raised:
        settings.Settings(redis_url=f"http://user:{acl.PASSWORD}@h", secret_key=KEY)  # type: ignore[arg-type]
    assert not shows("".join(traceback.format_exception(raised.value)))
