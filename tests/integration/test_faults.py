"""Real workers against servers that are full, demoted or away, and replies that are lost or late."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import fleet
import pytest
import redis
from producer import Producer
from proxy import Proxy
from servers import Server
from waiting import poll

from sisy_redis import calls, operations
from sisy_redis.definitions import Overlap, Plan, Segment
from sisy_redis.errors import RedisUnavailable
from sisy_redis.scripts import script
from sisy_redis.transport import AsyncTransport, Transport

Start = Callable[..., fleet.Worker]
Serve = Callable[..., Server]


@pytest.fixture
def own(server_factory: Serve, namespace: str, tmp_path: Path) -> Iterator[tuple[Server, Producer]]:
    """A server of the test's own, and a producer on it."""
    server = server_factory()
    producer = Producer(server.url, namespace, tmp_path / "journal")
    yield server, producer
    producer.transport.close()


def _break(server: Server, how: str) -> None:
    with server.client() as client:
        if how == "full":
            client.config_set("maxmemory", "1mb")
        elif how == "demoted":
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        elif how == "cut off":
            client.config_set("replica-serve-stale-data", "no")
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        else:
            client.config_set("min-replicas-to-write", "1")


def _mend(server: Server) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "0")
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("min-replicas-to-write", "0")


BROKEN = ["full", "demoted", "cut off", "without replicas"]


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("size", [1, 2])
def test_a_server_that_cannot_work_at_the_moment_is_unavailable(
    own: tuple[Server, Producer], how: str, size: int
) -> None:
    server, producer = own
    _break(server, how)
    batch = [calls.wake(producer.space, 1)] * size

    async def send() -> None:
        await AsyncTransport(server.url).execute(batch)

    for attempt in (lambda: Transport(server.url).execute(batch), lambda: asyncio.run(send())):
        with pytest.raises(RedisUnavailable):
            attempt()


@pytest.mark.parametrize("how", BROKEN)
def test_a_worker_outlives_a_server_that_cannot_work_for_a_while(
    own: tuple[Server, Producer], start: Start, how: str
) -> None:
    server, producer = own
    producer.save(producer.definition("steady", "quick_coroutine", schedule="* * * * * *"))
    worker = start(url=server.url)
    poll(lambda: len(producer.rows("steady")) >= 2)
    _break(server, how)
    poll(lambda: "waiting for it" in worker.output)
    _mend(server)
    before = len(producer.rows("steady"))
    poll(lambda: len(producer.rows("steady")) >= before + 2, 20)
    nominals = [row["nominal"] for row in producer.rows("steady")]
    assert len(nominals) == len(set(nominals))
    assert worker.process.poll() is None and "Traceback" not in worker.output


def test_a_worker_that_is_started_on_a_full_server_waits_for_it(
    own: tuple[Server, Producer], start: Start, tmp_path: Path
) -> None:
    server, producer = own
    (tmp_path / "declares.py").write_text(
        "from sisy_redis import Scheduler\n"
        f"@Scheduler().task(id='declared', schedule='* * * * * *', userdata={{'journal': '{producer.journal}'}})\n"
        "def declared(message):\n    import fleet\n    fleet.record(message, 'start')\n"
    )
    _break(server, "full")
    worker = start("--import", "declares", url=server.url)
    poll(lambda: "waiting for it" in worker.output)
    _mend(server)
    poll(lambda: producer.rows("declared"))


def test_a_full_server_drains(own: tuple[Server, Producer], start: Start) -> None:
    server, producer = own
    seconds = {"seconds": 2}
    ids = [f"t{i}" for i in range(250)]
    producer.save(*(producer.definition(i, "slow_coroutine", schedule="@once", userdata=seconds) for i in ids))
    worker = start("--concurrency", "250", url=server.url)
    poll(lambda: len([row for row in fleet.rows(producer.journal) if row["event"] == "start"]) == 250)
    _break(server, "full")
    poll(lambda: not any(producer.state(i) for i in ids[::25]), what="every run is settled")
    assert worker.process.poll() is None


def test_a_worker_that_drains_while_redis_is_away_complains_once(own: tuple[Server, Producer], start: Start) -> None:
    server, producer = own
    producer.save(producer.definition("slow", "slow", schedule="@once", userdata={"seconds": 1}))
    worker = start("--drain-timeout", "4", url=server.url)
    poll(lambda: producer.rows("slow"))
    server.kill()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    assert worker.output.count("could not settle") == 1


def test_a_lost_hint_keeps_no_attempt_from_beginning(own: tuple[Server, Producer], start: Start) -> None:
    server, producer = own
    proxy = Proxy(server.port, script("wake").sha.encode())
    try:
        worker = start("--concurrency", "1", url=proxy.url)
        poll(lambda: "slots" in worker.output)
        proxy.losses = 3
        producer.save(
            *(producer.definition(i, "quick", schedule="@every 0.5", overlap=Overlap.SKIP) for i in ("one", "two"))
        )
        poll(lambda: proxy.lost == 3)
        counts = [len(producer.rows(i)) for i in ("one", "two")]
        for i, before in zip(("one", "two"), counts, strict=True):
            poll(lambda i=i, before=before: len(producer.rows(i)) >= before + 2)  # type: ignore[misc]
    finally:
        proxy.close()


def test_an_answer_that_comes_after_the_lease_ended_starts_nothing(own: tuple[Server, Producer], start: Start) -> None:
    server, producer = own
    proxy = Proxy(server.port, script("claim").sha.encode())
    partition = producer.space.partition(0)
    try:
        producer.save(producer.definition("known", "quick_coroutine", schedule="@once"))
        late = start("--lease", "2", url=proxy.url)
        poll(lambda: producer.rows("known") and producer.state("known") is None, what="the callable is known")
        proxy.holds = True
        producer.save(producer.definition("late", "quick_coroutine", schedule="@once", overlap=Overlap.SKIP))
        with server.client() as client:
            (key,) = poll(lambda: list(client.scan_iter(partition.live("*"))), what="the claim was executed")
        late.process.send_signal(signal.SIGSTOP)
        dead = calls.Expired(key.decode().rpartition(":")[2], "default", "late")

        def is_reaped() -> bool:
            (answer,) = producer.transport.execute([calls.reap(partition, dead)])
            return bool(answer.taken)

        poll(is_reaped, what="the lease of the stopped worker ran out")
        proxy.release()
        late.process.send_signal(signal.SIGCONT)
        poll(lambda: "lost the lease" in late.output or producer.rows("late"))
        (row,) = poll(lambda: producer.rows("late"))
        assert row["attempt"] == 2, "the first attempt was another's already"
    finally:
        proxy.close()


def test_a_task_that_cannot_be_planned_holds_up_no_other_and_is_reported(producer: Producer, start: Start) -> None:
    (now_ms,) = producer.transport.execute([calls.server_time(producer.space)])
    soon = Plan((Segment(now_ms + 200, 0, 1),), complete=False)
    tasks = [
        producer.definition("bad", "quick", schedule="* * * * *", tz="Mars/Crater"),
        producer.definition("good", "quick", schedule="* * * * * *"),
    ]
    saves = [
        calls.Save(op=operations.new_op(now_ms), definition=d, base=None, plan=soon, planned_from_ms=now_ms)
        for d in tasks
    ]
    producer.transport.execute([calls.save(producer.space.partition(0), saves)])
    start()
    poll(lambda: len(producer.rows("good")) >= 3, what="the good one goes on")
    state = poll(lambda: (s := producer.state("bad")) and s.unroutable and s)
    assert "Mars/Crater" in str(state.unroutable)  # type: ignore[union-attr]
    poll(lambda: any(row["pid"] for row in producer.rows("bad")), what="what was planned of it still runs")


def test_an_error_in_a_step_does_not_end_the_worker(producer: Producer, start: Start, client: redis.Redis) -> None:
    key = producer.space.partition(0).key("history")
    client.set(key, "not a stream")
    producer.save(producer.definition("steady", "quick", schedule="* * * * * *"))
    worker = start()
    poll(lambda: "a step of the worker failed" in worker.output)
    client.delete(key)
    before = len(producer.rows("steady"))
    poll(lambda: len(producer.rows("steady")) >= before + 2)
    assert worker.process.poll() is None and worker.output.count("a step of the worker failed") == 1


def test_a_drained_worker_that_lost_its_lease_cancels_its_runs(own: tuple[Server, Producer], start: Start) -> None:
    server, producer = own
    producer.save(producer.definition("long", "slow_coroutine", schedule="@once", userdata={"seconds": 20}))
    worker = start("--lease", "2", "--drain-timeout", "30", url=server.url)
    poll(lambda: producer.rows("long"))
    worker.process.send_signal(signal.SIGTERM)
    poll(lambda: "stopping" in worker.output)
    server.kill()
    assert worker.process.wait(15) == 0
    assert "lost the lease" in worker.output and not producer.rows("long", "end")
