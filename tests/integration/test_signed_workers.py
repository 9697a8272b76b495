"""Real workers with a secret key: what is signed runs, what is not is left and reported, and the key is seen nowhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fleet
import pytest
import redis
from producer import Producer
from waiting import poll

from sisy_redis import Scheduler, Task, configure, context
from sisy_redis.definitions import Pool
from sisy_redis.errors import SignatureError

KEY, NEXT_KEY = "k-" + "1" * 30, "n-" + "2" * 30
Start = Callable[..., fleet.Worker]


@pytest.fixture
def keyed(redis_url: str, namespace: str) -> Iterator[None]:
    configure(redis_url=redis_url, namespace=namespace, secret_key=KEY)
    yield
    context.close()
    configure(redis_url=None, namespace=None, secret_key=None)


def tasks_key(namespace: str) -> str:
    return f"sisy:{{{namespace}:0}}:tasks"


@pytest.mark.usefixtures("keyed")
def test_a_worker_with_the_key_runs_what_was_signed_and_nothing_else(
    producer: Producer, start: Start, redis_url: str, namespace: str, client: redis.Redis
) -> None:
    signed = producer.definition("signed", "quick", schedule="* * * * * *")
    altered = producer.definition("altered", "quick", schedule="* * * * * *")
    producer.save(producer.definition("unsigned", "quick", schedule="* * * * * *"))
    with Scheduler(redis_url, namespace) as scheduler:
        scheduler.save(signed)
        scheduler.save(altered)
        record = client.hget(tasks_key(namespace), "altered")
        forged = record.replace(b"fleet.quick", b"fleet.failing")
        client.hset(tasks_key(namespace), "altered", forged)
        before = client.hgetall(tasks_key(namespace))
        worker = start(env={"SISY_SECRET_KEY": KEY})
        poll(lambda: len(producer.rows("signed")) >= 2, 40)
        poll(lambda: all(scheduler.get(i).unroutable for i in ("unsigned", "altered")), 40)
        reasons = [scheduler.get(i).unroutable for i in ("unsigned", "altered")]
        assert "is not signed" in str(reasons[0]) and "was altered" in str(reasons[1])
        seen = len(producer.rows("signed"))
        poll(lambda: len(producer.rows("signed")) >= seen + 2, 40)
        assert producer.rows("unsigned") == producer.rows("altered") == []
        assert client.hgetall(tasks_key(namespace)) == before
        # Saving the full definition is how one vouches for a task; the same worker then takes it.
        scheduler.save(altered)
        poll(lambda: producer.rows("altered"), 60)
    assert KEY not in worker.output and "is not run: its record is not signed" in worker.output


@pytest.mark.usefixtures("keyed")
def test_a_run_that_saves_its_task_signs_it_in_every_pool(
    producer: Producer, start: Start, redis_url: str, namespace: str
) -> None:
    with Scheduler(redis_url, namespace) as scheduler:
        scheduler.save(producer.definition("thread", "counting", schedule="* * * * * *", iterations=2))
        scheduler.save(
            producer.definition("child", "from_a_child", schedule="@once", pool=Pool.PROCESS, userdata={"id": "made"})
        )
        start(env={"SISY_SECRET_KEY": KEY})
        poll(lambda: len(producer.rows("thread", "saved")) == 2, 60)
        # What a child saved is signed too, or it would never run.
        poll(lambda: producer.rows("made"), 60)


@pytest.mark.usefixtures("keyed")
def test_a_rotation_of_keys_loses_no_run(producer: Producer, start: Start, redis_url: str, namespace: str) -> None:
    with Scheduler(redis_url, namespace) as scheduler:
        scheduler.save(producer.definition("old", "quick", schedule="* * * * * *"))
    rotating = start(env={"SISY_SECRET_KEY": f"{NEXT_KEY},{KEY}"})
    poll(lambda: producer.rows("old"), 40)
    configure(secret_key=f"{NEXT_KEY},{KEY}")
    with Scheduler(redis_url, namespace) as scheduler:
        for view in scheduler.find():
            scheduler.save(view.stored.definition)
    rotated = start(env={"SISY_SECRET_KEY": NEXT_KEY})
    assert rotating.stop() == 0
    poll(lambda: rotated.pid in {row["pid"] for row in producer.rows("old")}, 60)


@pytest.mark.usefixtures("keyed")
def test_a_task_object_refuses_to_sign_what_it_found_unsigned(producer: Producer) -> None:
    producer.save(producer.definition("found", "quick"))
    task = Task.objects.get(id="found")
    task.label = "mine"
    with pytest.raises(SignatureError, match="is not signed"):
        task.save()


def test_a_bad_key_ends_the_worker_with_2_and_is_not_shown(start: Start, tmp_path: Path) -> None:
    worker = start(env={"SISY_SECRET_KEY": "hunter2"})
    assert worker.process.wait(60) == 2
    assert "SISY_SECRET_KEY (from the environment)" in worker.output and "hunter2" not in worker.output
