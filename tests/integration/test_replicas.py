"""``wait_replicas``: what was acknowledged by a replica outlives the primary; what was not is told, and not started."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import clusters
import fleet
import occurrences
import pytest
import servers
from clusters import Sentinels
from producer import Producer
from proxy import Proxy
from servers import Server
from waiting import poll

from sisy_redis import AsyncScheduler, Scheduler, configure
from sisy_redis.definitions import Overlap
from sisy_redis.errors import NotAcknowledged

Start = Callable[..., fleet.Worker]


@pytest.fixture
def pair(server_factory: Callable[..., Server], tmp_path: Path) -> Sentinels:
    """A primary and a replica that nobody watches: the test promotes it."""
    return Sentinels(server_factory, tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[fleet.Worker] = []

    def go(url: str, wait_replicas: int) -> fleet.Worker:
        env = {"SISY_WAIT_REPLICAS": str(wait_replicas)}
        started.append(fleet.Worker(url, "crew", tmp_path, env=env))
        return started[-1]

    yield go
    for worker in started:
        worker.kill()


def _cut_off(pair: Sentinels) -> None:
    """The replica hears nothing more: what the primary accepts from now on is only there."""
    clusters.pause(pair.replica)
    with pair.primary.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


def _promoted(pair: Sentinels) -> str:
    """The primary is lost for good, the replica takes its place."""
    pair.primary.kill()
    clusters.resume(pair.replica)
    with pair.replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    return pair.replica.url


def test_without_it_what_started_while_the_replica_was_away_starts_again(
    pair: Sentinels, start: Start, tmp_path: Path
) -> None:
    producer = Producer(pair.primary.url, "crew", tmp_path / "journal")
    producer.save(producer.definition("a", "quick", schedule="@every 0.5"))
    worker = start(pair.primary.url, 0)
    poll(lambda: len(producer.rows("a")) >= 2)
    _cut_off(pair)
    cut_at = time.time()
    poll(lambda: [row for row in producer.rows("a") if row["at"] > cut_at + 1.0], what="it goes on regardless")  # type: ignore[operator]
    url = _promoted(pair)
    worker.kill()
    start(url, 0)
    poll(lambda: occurrences.started_twice(fleet.rows(producer.journal)), what="the same runs start again")
    poll(lambda: [row for row in producer.rows("a") if row["at"] > time.time() - 0.5])  # type: ignore[operator]
    rows = fleet.rows(producer.journal)
    before = [row["run"] for row in rows if row["at"] <= cut_at - 0.5]
    twice = {nominal for _, nominal in occurrences.started_twice(rows)}
    assert not twice & {occurrences.nominal_of(row) for row in rows if row["run"] in before}, (
        "what it had is not repeated"
    )
    producer.transport.close()


def test_with_it_nothing_starts_that_a_failover_could_repeat(pair: Sentinels, start: Start, tmp_path: Path) -> None:
    producer = Producer(pair.primary.url, "crew", tmp_path / "journal")
    producer.save(producer.definition("a", "quick", schedule="@every 0.5"))
    worker = start(pair.primary.url, 1)
    poll(lambda: len(producer.rows("a")) >= 2)
    _cut_off(pair)
    poll(lambda: worker.output.count("given back unstarted") >= 2, 30, "claims are refused")
    started = {str(row["run"]) for row in fleet.rows(producer.journal)}
    poll(lambda: worker.output.count("given back unstarted") >= 4, 30, "more claims are refused")
    assert {str(row["run"]) for row in fleet.rows(producer.journal)} == started
    url = _promoted(pair)
    worker.kill()
    start(url, 0)
    poll(lambda: {str(row["run"]) for row in fleet.rows(producer.journal)} - started, 30, "they start elsewhere")
    assert occurrences.started_twice(fleet.rows(producer.journal)) == []
    producer.transport.close()


def test_attempts_that_were_given_back_start_once_the_replica_is_back(
    pair: Sentinels, start: Start, tmp_path: Path
) -> None:
    producer = Producer(pair.primary.url, "crew", tmp_path / "journal")
    clusters.pause(pair.replica)
    producer.save(producer.definition("a", "quick", schedule="@once", iterations=1))
    worker = start(pair.primary.url, 1)
    poll(lambda: "given back unstarted: stored, but acknowledged by 0 of 1 replicas" in worker.output, 30)
    assert not producer.rows("a")
    clusters.resume(pair.replica)
    (row,) = poll(lambda: producer.rows("a"), 30, "it runs")
    assert row["attempt"] == 1
    poll(lambda: producer.history("a"))
    assert len(producer.rows("a")) == 1
    producer.transport.close()


def test_a_run_whose_settlement_a_failover_lost_is_ended_again_and_not_repeated(
    pair: Sentinels, tmp_path: Path
) -> None:
    """The new primary has the run as live, its worker has ended it long ago: nobody else would ever end it."""
    proxy = Proxy(pair.primary.port, b"nothing is lost here")
    producer = Producer(pair.primary.url, "crew", tmp_path / "journal")
    slow = producer.definition(
        "a", "slow", schedule="@every 600", wait_for_schedule=False, overlap=Overlap.SKIP, userdata={"seconds": 2}
    )
    producer.save(slow)
    worker = fleet.Worker(proxy.url, "crew", tmp_path, "--lease", "3")
    try:
        poll(lambda: producer.rows("a"), 30, "it runs")
        poll(lambda: _has_link(pair))
        _cut_off(pair)
        poll(lambda: producer.history("a"), 30, "it is settled")
        proxy.lead_to(pair.replica.port)
        after = Producer(_promoted(pair), "crew", tmp_path / "journal")
        held = after.state("a")
        assert held is not None and held.open_runs == 1
        poll(lambda: after.history("a"), 30, "it is settled once more")
        state = after.state("a")
        assert state is not None and state.open_runs == 0
        assert len(after.rows("a")) == 1
        assert "it is ended again" in worker.output
        after.transport.close()
    finally:
        worker.kill()
        proxy.close()
        producer.transport.close()


@pytest.fixture
def wait_for_one() -> Iterator[None]:
    configure(wait_replicas=1)
    yield
    configure(wait_replicas=None)


async def test_a_save_that_no_replica_acknowledged_says_so_and_is_stored(pair: Sentinels, wait_for_one: None) -> None:
    with Scheduler(pair.primary.url, namespace="crew") as scheduler:
        scheduler.save("fleet.quick", id="well", schedule="0 0 1 1 *")
        clusters.pause(pair.replica)
        with pytest.raises(NotAcknowledged, match="stored, but acknowledged by 0 of 1 replicas"):
            scheduler.save("fleet.quick", id="sync", schedule="0 0 1 1 *")
        async with AsyncScheduler(pair.primary.url, namespace="crew") as other:
            with pytest.raises(NotAcknowledged):
                await other.save("fleet.quick", id="async", schedule="0 0 1 1 *")
        assert {view.id for view in scheduler.find()} == {"well", "sync", "async"}
        clusters.resume(pair.replica)
        poll(lambda: _has_link(pair), what="the replica is back")
        scheduler.save("fleet.quick", id="again", schedule="0 0 1 1 *")


def _has_link(pair: Sentinels) -> bool:
    with pair.primary.client() as client:
        return bool(client.execute_command("WAIT", 1, 100) == 1)


def test_what_was_acknowledged_outlives_the_primary(pair: Sentinels, wait_for_one: None) -> None:
    with Scheduler(pair.primary.url, namespace="crew") as scheduler:
        for i in range(20):
            scheduler.save("fleet.quick", id=f"t{i}", schedule="0 0 1 1 *")
    pair.primary.kill()
    with servers.plain_client(pair.replica.url) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    with Scheduler(pair.replica.url, namespace="crew") as scheduler:
        assert len(scheduler.find()) == 20
