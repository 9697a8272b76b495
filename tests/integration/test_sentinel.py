"""A real primary, replica and three Sentinels: what workers do in a failover, and what may repeat after it."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import clusters
import fleet
import occurrences
import pytest
from clusters import Sentinels
from producer import Producer
from servers import Server, plain_client
from waiting import poll

from sisy_redis import AsyncScheduler, Scheduler
from sisy_redis.errors import RedisUnavailable, SettingsError
from sisy_redis.transport import Transport

STEP = timedelta(seconds=0.5)
TASKS = 8
# Asynchronous replication does not lag for long while both sides are well.
LAG = timedelta(seconds=2)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def watched(server_factory: Callable[..., Server], tmp_path: Path) -> Iterator[Sentinels]:
    made = Sentinels(server_factory, tmp_path)
    made.watch()
    yield made
    made.stop()


@pytest.fixture
def start(watched: Sentinels, tmp_path: Path) -> Iterator[Callable[..., fleet.Worker]]:
    started: list[fleet.Worker] = []

    def go(wait_replicas: int) -> fleet.Worker:
        env = {"SISY_WAIT_REPLICAS": str(wait_replicas)}
        started.append(fleet.Worker(watched.url, "crew", tmp_path, env=env))
        return started[-1]

    yield go
    for worker in started:
        worker.kill()


@pytest.fixture
def producer(watched: Sentinels, tmp_path: Path) -> Iterator[Producer]:
    made = Producer(watched.url, "crew", tmp_path / "journal")
    yield made
    made.transport.close()


def _everything_runs(producer: Producer, since: float, timeout: float = 60) -> None:
    at = datetime.fromtimestamp(since, UTC)

    def fresh() -> set[str]:
        rows = fleet.rows(producer.journal)
        return {occurrences.task_of(row) for row in rows if occurrences.nominal_of(row) > at}

    poll(lambda: len(fresh()) == TASKS, timeout, "every task runs")


def _missing(producer: Producer) -> dict[str, list[datetime]]:
    rows = fleet.rows(producer.journal)
    return {i: lost for i in (f"t{n}" for n in range(TASKS)) if (lost := occurrences.missing(rows, i, STEP))}


@pytest.mark.parametrize("wait_replicas", [0, 1])
@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_workers_follow_a_failover_by_themselves(
    watched: Sentinels, producer: Producer, start: Callable[..., fleet.Worker], fault: str, wait_replicas: int
) -> None:
    """Without acknowledgement, only what the replica lacked may be admitted again; with it, nothing that started."""
    producer.save(*(producer.definition(f"t{i}", "quick", schedule="@every 0.5") for i in range(TASKS)))
    running = [start(wait_replicas) for _ in range(2)]
    _everything_runs(producer, time.time())
    lost_at = time.time()
    watched.primary.kill() if fault == "killed" else clusters.pause(watched.primary)
    poll(lambda: watched.primary_port() == watched.replica.port, 60, "the Sentinels promote the replica")
    failed_over = time.time()
    # The new primary has no replica until the old one is back: with wait_replicas nothing starts until then.
    if fault == "killed" and wait_replicas:
        watched.primary.start()
    elif fault == "paused":
        if not wait_replicas:
            _everything_runs(producer, failed_over)
        clusters.resume(watched.primary)
    _everything_runs(producer, time.time())
    poll(lambda: not _missing(producer), 60, "every occurrence ran at least once")
    resumed_at = time.time()
    rows = fleet.rows(producer.journal)
    first = min(row["at"] for row in rows if row["at"] > failed_over)
    twice = occurrences.started_twice(rows)
    print(
        f"\n{fault}, wait_replicas={wait_replicas}: failover {failed_over - lost_at:.1f} s, "
        f"first run {first - failed_over:.1f} s later, started twice: {len(twice)}"
    )
    assert all(worker.process.poll() is None for worker in running)
    if wait_replicas:
        assert twice == []
    at, end = datetime.fromtimestamp(lost_at, UTC), datetime.fromtimestamp(resumed_at, UTC)
    assert [nominal for _, nominal in twice if not at - LAG <= nominal <= end] == []


async def test_both_faces_find_the_primary_and_find_it_again(watched: Sentinels) -> None:
    with Scheduler(watched.url, namespace="faces") as scheduler:
        scheduler.save("fleet.quick", id="one", schedule="0 0 1 1 *")
        async with AsyncScheduler(watched.url, namespace="faces") as other:
            assert (await other.get("one")) is not None
            watched.primary.kill()
            poll(lambda: watched.primary_port() == watched.replica.port, 60, "the Sentinels promote the replica")
            scheduler.save("fleet.quick", id="two", schedule="0 0 1 1 *")
            assert {view.id for view in await other.find()} == {"one", "two"}


def test_the_servers_and_the_sentinels_have_users_of_their_own(watched: Sentinels) -> None:
    with watched.primary.client() as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">hunter2", "~*", "&*", "+@all")
    for port in watched.ports:
        with plain_client(f"redis://127.0.0.1:{port}") as sentinel:
            sentinel.execute_command("ACL", "SETUSER", "watcher", "on", ">hunter3", "allchannels", "+@all")
            sentinel.execute_command("ACL", "SETUSER", "default", "off")
    url = watched.url.replace("://", "://me:hunter2@")
    for options, is_right in (("?sentinel_username=watcher&sentinel_password=hunter3", True), ("", False)):
        transport = Transport(url + options)
        if is_right:
            assert transport.server_version()
        else:
            with pytest.raises(RedisUnavailable) as refused:
                transport.server_version()
            assert "hunter" not in str(refused.value)
        transport.close()
    transport = Transport(
        watched.url.replace("://", "://me:wrong@") + "?sentinel_username=watcher&sentinel_password=hunter3"
    )
    with pytest.raises(SettingsError, match="refused the user or password"):
        transport.server_version()
    transport.close()


def test_an_unknown_service_is_an_outage_that_names_it(watched: Sentinels) -> None:
    transport = Transport(watched.url.replace("/crew", "/other"))
    with pytest.raises(RedisUnavailable, match="other"):
        transport.server_version()
    transport.close()
