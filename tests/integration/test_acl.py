"""The least Redis ACL that works: the main paths under it, always, and nothing outside the namespace."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import acl
import fleet
import pytest
import redis
from producer import Producer
from servers import plain_client
from waiting import poll

from sisy_redis import HAS_NOT_RUN, Scheduler, SisyError
from sisy_redis.scripts import script

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., fleet.Worker]


@pytest.fixture
def least_url(redis_url: str, client: redis.Redis, namespace: str) -> str:
    """The session's server, for a user who may touch this namespace only."""
    acl.create(client, *acl.patterns(namespace), user=f"{acl.USER}-one")
    return acl.url_of(redis_url, f"{acl.USER}-one")


def test_the_main_paths_work_with_the_least_rights(
    least_url: str, namespace: str, start: Start, tmp_path: Path
) -> None:
    producer = Producer(least_url, namespace, tmp_path / "journal")
    with Scheduler(least_url, namespace) as scheduler:
        once = scheduler.save(producer.definition("once", "quick", schedule="@once"))
        scheduler.save_many([producer.definition("hourly", "failing", schedule="0 * * * *", iterations=5)])
        assert start("--burst", url=least_url).process.wait(60) == 0
        assert [entry.what for entry in scheduler.history(once)] == ["end", "ok"]
        assert [view.id for view in scheduler.find()] == ["hourly"]
        run_id = scheduler.trigger("hourly")
        assert start("--burst", url=least_url).process.wait(60) == 0
        (failed,) = [entry for entry in scheduler.history("hourly") if entry.run_id == run_id]
        assert failed.what == "failed" and "as expected" in failed.error
        scheduler.pause("hourly", by="me", reason="why")
        scheduler.resume("hourly")
        scheduler.save(producer.definition("hourly", "quick", schedule="@every 1", queue="other"))
        # A worker that stays: renewing, waiting for hints, planning and saving from within a run.
        scheduler.save(producer.definition("counter", "counting", schedule="* * * * * *"))
        worker = start("--lease", "1", url=least_url)
        poll(lambda: len(producer.rows("counter", "saved")) >= 3, 60)
        assert scheduler.workers()
        assert worker.stop() == 0
        assert scheduler.explain("counter").reasons and scheduler.dead() == []
        scheduler.maintenance(HAS_NOT_RUN)
        scheduler.purge(timedelta(days=1))
        assert scheduler.examine() == []
        assert scheduler.delete("hourly") and scheduler.delete("counter")
    assert "NOPERM" not in worker.output and "no permissions" not in worker.output
    producer.transport.close()


def test_keys_outside_the_namespace_are_refused(least_url: str, namespace: str) -> None:
    with plain_client(least_url) as least:
        for key in (f"sisy:{{{namespace}x:0}}:tasks", f"sisy:{{{namespace}x}}:namespace", "other"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                least.hget(key, "a")
            with pytest.raises(redis.ResponseError, match="(?i)permission"):
                least.eval("return redis.call('HGET', KEYS[1], 'a')", 1, key)
    with Scheduler(least_url, f"{namespace}x") as other, pytest.raises(SisyError, match="(?i)permission"):
        other.find()


@pytest.mark.parametrize("command", ["FLUSHALL", "KEYS *", "CONFIG GET maxmemory", "ACL LIST", "SCRIPT FLUSH", "DEL a"])
def test_commands_nobody_needs_are_refused(least_url: str, command: str) -> None:
    with plain_client(least_url) as least, pytest.raises(redis.exceptions.NoPermissionError):
        least.execute_command(*command.split())


def test_every_command_of_a_script_is_among_the_rights_and_none_is_there_for_nothing() -> None:
    texts = [script(path.stem).text for path in sorted((ROOT / "lua").glob("*.lua"))] if (ROOT / "lua").is_dir() else []
    if not texts:
        pytest.skip("the scripts are in the wheel")
    called = {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    assert called <= set(acl.COMMANDS)
    sources = "".join(path.read_text() for path in (ROOT / "sisy_redis").rglob("*.py"))
    read = {name.lower() for name in re.findall(r"\bread\([^\"()]+(?:\(\))?, \"([A-Z]+)\"", sources)}
    assert read and read <= set(acl.COMMANDS)
    outside = {c for c in acl.COMMANDS if c not in called and f'"{c.upper()}"' not in sources}
    # What redis-py sends for us.
    assert outside == {"blpop", "subscribe", "client|setname"}


def test_the_documents_state_these_rights() -> None:
    line = " ".join(f"+{command}" for command in acl.COMMANDS)
    for name in ("SECURITY.md", "README.md"):
        document = ROOT / name
        if document.exists():
            text = " ".join(document.read_text().replace("\\\n", " ").split())
            assert line in text, name
