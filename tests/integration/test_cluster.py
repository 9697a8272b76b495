"""A real Redis Cluster: three primaries, three replicas, and workers that go on by themselves whatever happens to it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import clusters
import fleet
import occurrences
import pytest
from clusters import Cluster
from producer import Producer
from redis.crc import key_slot
from servers import Server
from waiting import poll

from sisy_redis import AsyncScheduler, Scheduler, calls, configure
from sisy_redis.definitions import Overlap
from sisy_redis.errors import RedisUnavailable, SettingsError
from sisy_redis.keys import Space
from sisy_redis.transport import AsyncTransport, Transport

PARTITIONS = 8
STEP = timedelta(seconds=0.5)
# What a replica may lack of what its primary acknowledged: replication is asynchronous, but it does not lag for long.
LOST = timedelta(seconds=2)

Start = Callable[..., list[fleet.Worker]]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster(server_factory: Callable[..., Server]) -> Cluster:
    return Cluster(server_factory)


@pytest.fixture
def load(cluster: Cluster, tmp_path: Path) -> Iterator[Producer]:
    """Tasks that run twice a second in every partition; the odd ones forbid overlap, so a run left open stops them."""
    made = Producer(cluster.url, "load", tmp_path / "journal", partitions=PARTITIONS)
    rules = (Overlap.ALLOW, Overlap.SKIP)
    made.save(
        *(made.definition(f"t{i}", "quick", schedule="@every 0.5", overlap=rules[i % 2]) for i in range(2 * PARTITIONS))
    )
    yield made
    made.transport.close()


@pytest.fixture
def workers(cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    started: list[fleet.Worker] = []

    def go(count: int, *options: str, wait_replicas: int = 0) -> list[fleet.Worker]:
        for _ in range(count):
            env = {"SISY_PARTITIONS": str(PARTITIONS), "SISY_WAIT_REPLICAS": str(wait_replicas)}
            started.append(fleet.Worker(cluster.url, "load", tmp_path, *options, env=env))
        return started

    yield go
    for worker in started:
        worker.kill()


def _slot(load: Producer, index: int = 0) -> int:
    return int(key_slot(load.space.partition(index).key("meta").encode()))


def _starts_since(load: Producer, at: float) -> set[str]:
    """The tasks that began something whose time came after ``at``."""
    since = datetime.fromtimestamp(at, UTC)
    return {occurrences.task_of(row) for row in fleet.rows(load.journal) if occurrences.nominal_of(row) > since}


def _all_run(load: Producer, at: float | None = None, timeout: float = 60) -> None:
    since = time.time() if at is None else at
    everyone = {f"t{i}" for i in range(2 * PARTITIONS)}
    poll(lambda: _starts_since(load, since) == everyone, timeout, "every task runs")


def _missing(load: Producer) -> dict[str, list[datetime]]:
    """What did not run of the tasks that may not skip an occurrence."""
    rows = fleet.rows(load.journal)
    ids = [f"t{i}" for i in range(0, 2 * PARTITIONS, 2)]
    return {i: lost for i in ids if (lost := occurrences.missing(rows, i, STEP))}


def test_every_partition_serves_both_faces(cluster: Cluster) -> None:
    configure(partitions=PARTITIONS)
    try:
        with Scheduler(cluster.url, namespace="faces") as scheduler:
            ids = [f"t{i}" for i in range(24)]
            for task_id in ids:
                scheduler.save("fleet.quick", id=task_id, schedule="0 0 1 1 *", label="crew")
            assert {view.id for view in scheduler.find("crew")} == set(ids)
            run_id = scheduler.trigger("t7")
            scheduler.pause("t8", by="me")

            async def ask() -> None:
                async with AsyncScheduler(cluster.url, namespace="faces") as other:
                    seven, eight = await other.get("t7"), await other.get("t8")
                    assert seven is not None and seven.running
                    assert eight is not None and eight.pause is not None
                    assert {view.id for view in await other.find("crew")} == set(ids)
                    await other.delete("t9")

            asyncio.run(ask())
            assert run_id.startswith("t7:")
            assert {view.id for view in scheduler.find("crew")} == {*ids} - {"t9"}
    finally:
        configure(partitions=None)


def test_workers_serve_every_partition(load: Producer, workers: Start, cluster: Cluster) -> None:
    workers(2)
    _all_run(load)
    poll(lambda: all(load.history(f"t{i}") for i in range(2 * PARTITIONS)), what="every run is in the history")
    used = {cluster.serving(_slot(load, i)).port for i in range(PARTITIONS)}
    assert len(used) == 3
    assert not occurrences.started_twice(fleet.rows(load.journal))


@pytest.mark.parametrize(("fault", "wait_replicas"), [("killed", 0), ("paused", 0), ("killed", 1)])
def test_workers_go_on_by_themselves_when_a_primary_is_lost(
    load: Producer, workers: Start, cluster: Cluster, fault: str, wait_replicas: int
) -> None:
    running = workers(2, wait_replicas=wait_replicas)
    _all_run(load)
    lost = cluster.serving(_slot(load))
    mine = {i for i in range(PARTITIONS) if cluster.serving(_slot(load, i)) is lost}
    lost_at = time.time()
    lost.kill() if fault == "killed" else clusters.pause(lost)
    survivor = next(node for node in cluster.nodes if node is not lost)
    poll(lambda: cluster.serving(_slot(load), survivor) is not lost, 60, "a replica takes over")
    failed_over = time.time()
    if wait_replicas:
        # The new primary needs a replica before anything starts.
        lost.start()
    _all_run(load, failed_over)
    back = min(
        row["at"] for row in fleet.rows(load.journal) if row["at"] > failed_over and _partition(load, row) in mine
    )
    print(
        f"\n{fault}: failover {failed_over - lost_at:.1f} s, first run of a lost partition {back - failed_over:.1f} s later"
    )
    if fault == "paused":
        clusters.resume(lost)
        _all_run(load)
    assert all(worker.process.poll() is None for worker in running)
    poll(lambda: not _missing(load), 60, "every occurrence ran at least once")
    at = datetime.fromtimestamp(lost_at, UTC)
    twice = occurrences.started_twice(fleet.rows(load.journal))
    print(f"started twice: {len(twice)}")
    if wait_replicas:
        assert twice == []
    assert [
        (task, nominal)
        for task, nominal in twice
        if load.space.partition_of(task).index not in mine or not at - LOST <= nominal <= at + LOST
    ] == []


def _partition(load: Producer, row: occurrences.Row) -> int:
    return load.space.partition_of(occurrences.task_of(row)).index


def test_a_primary_that_hangs_does_not_hold_up_the_other_partitions(
    load: Producer, workers: Start, cluster: Cluster
) -> None:
    """Nobody takes over here, and the others' tasks go on all the while."""
    for node in cluster.nodes:
        with node.client() as client:
            client.config_set("cluster-require-full-coverage", "no")
            client.config_set("cluster-replica-no-failover", "yes")
    workers(2, "--lease", "6")
    _all_run(load)
    hung = cluster.serving(_slot(load))
    well = [i for i in range(PARTITIONS) if cluster.serving(_slot(load, i)) is not hung]
    ids = {f"t{i}" for i in range(2 * PARTITIONS) if load.space.partition_of(f"t{i}").index in well}
    clusters.pause(hung)
    try:
        for _ in range(3):
            since = time.time()
            poll(lambda since=since: _starts_since(load, since) >= ids, 12, "the others go on")  # type: ignore[misc]
            poll(clusters.until(5.0), 10)
    finally:
        clusters.resume(hung)
    _all_run(load)
    poll(lambda: not _missing(load), 60, "what was due meanwhile ran too")
    assert occurrences.started_twice(fleet.rows(load.journal)) == []


@pytest.mark.parametrize("way", ["key by key", "at once"])
def test_a_slot_is_migrated_under_load_without_losing_or_repeating_anything(
    load: Producer, workers: Start, cluster: Cluster, way: str
) -> None:
    workers(2)
    _all_run(load)
    source = cluster.serving(_slot(load))
    target = cluster.serving(_slot(load, PARTITIONS - 1))
    assert source is not target
    if way == "key by key":
        cluster.migrate(_slot(load), source, target)
    elif not cluster.migrate_at_once(_slot(load), source, target):
        pytest.skip("this server moves slots key by key only")
    poll(lambda: all(cluster.serving(_slot(load), node) is target for node in (source, target)), 30)
    _all_run(load)
    assert _missing(load) == {}
    assert occurrences.started_twice(fleet.rows(load.journal)) == []


def test_a_producer_follows_a_slot_that_moved(load: Producer, cluster: Cluster) -> None:
    source, target = cluster.serving(_slot(load)), cluster.serving(_slot(load, PARTITIONS - 1))
    cluster.migrate(_slot(load), source, target)
    mine = [f"new{i}" for i in range(40) if load.space.partition_of(f"new{i}").index == 0]
    load.save(*(load.definition(task_id, "quick", schedule="0 0 1 1 *") for task_id in mine))
    assert all(load.state(task_id) is not None for task_id in mine)


def test_a_partition_whose_slot_is_split_is_unavailable_and_comes_back(load: Producer, cluster: Cluster) -> None:
    """While its keys lie on two nodes no script can run; that is no error to give up for."""
    slot = _slot(load)
    source, target = cluster.serving(slot), cluster.serving(_slot(load, PARTITIONS - 1))
    with source.client() as old, target.client() as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
        keys = old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1)
        old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    partition = load.space.partition(0)
    call = calls.register(partition, f"{int(time.time() * 1000)}-a", 5000, ["default"], "me")
    once = Transport(cluster.url)
    with pytest.raises(RedisUnavailable):
        once.execute([call])
    cluster.migrate(slot, source, target)
    assert once.execute([call])[0].boot
    once.close()


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_lost_reply_is_not_sent_again_and_the_others_are_answered(
    load: Producer, cluster: Cluster, face: str
) -> None:
    """A batch over all nodes, one of which hangs: its calls fail, each once; the others have their answers."""
    hung = cluster.serving(_slot(load))
    partitions = load.space.all_partitions()
    batch = [calls.read(int, "HLEN", p.key("tasks")) for p in partitions]

    def sync() -> list[object]:
        transport = Transport(cluster.url, socket_timeout=1.0)
        transport.exchange(batch)
        clusters.pause(hung)
        answers = transport.exchange(batch)
        began = time.monotonic()
        assert isinstance(transport.exchange(batch[:1])[0], RedisUnavailable)
        assert time.monotonic() - began < 1.0, "a node that hangs is left alone for a while"
        transport.close()
        return answers

    async def asynchronous() -> list[object]:
        transport = AsyncTransport(cluster.url, socket_timeout=1.0)
        await transport.exchange(batch)
        clusters.pause(hung)
        answers = await transport.exchange(batch)
        await transport.close()
        return answers

    try:
        answers = sync() if face == "sync" else asyncio.run(asynchronous())
    finally:
        clusters.resume(hung)
    fails = [isinstance(answer, RedisUnavailable) for answer in answers]
    assert fails == [cluster.serving(_slot(load, p.index)) is hung for p in partitions]


def test_a_script_that_one_node_forgot_is_sent_whole_to_that_node(load: Producer, cluster: Cluster) -> None:
    transport = Transport(cluster.url)
    op = f"{int(time.time() * 1000)}-"
    batch = [calls.register(p, f"{op}{p.index}", 5000, ["default"], "me") for p in load.space.all_partitions()]
    first = [answer.boot for answer in transport.execute(batch)]
    with cluster.serving(_slot(load)).client() as client:
        client.script_flush()
    assert [answer.boot for answer in transport.execute(batch)] == first
    transport.close()


def test_a_hint_reaches_the_node_that_serves_the_wake_list(load: Producer, cluster: Cluster) -> None:
    async def wait() -> bool:
        transport = AsyncTransport(cluster.url)
        try:
            threading.Timer(0.2, load.transport.execute, ([calls.wake(load.space, 1)],)).start()
            return await transport.wait_for_wake(load.space, 4.0)
        finally:
            await transport.close()

    assert asyncio.run(wait())


def test_a_server_that_is_no_cluster_is_told_apart(redis_url: str) -> None:
    transport = Transport(redis_url.replace("redis://", "redis+cluster://"))
    with pytest.raises(SettingsError, match="no node of a cluster"):
        transport.execute([calls.server_time(Space("any"))])
    transport.close()
