"""What cannot be understood or called is put aside with its bytes intact, and nothing else waits for it."""

import pytest
from lab import HOUR, MINUTE, T0, Lab, at, task

from sisy_redis import calls


@pytest.mark.parametrize("column", ["tasks", "plan"])
@pytest.mark.parametrize("junk", [b"\xff\x00junk", b"", b"2 from a newer release\nbody"])
def test_a_corrupt_record_is_parked_with_its_bytes_intact(lab: Lab, column: str, junk: bytes) -> None:
    lab.create(task("a"))
    lab.create(task("b"))
    lab.client.hset(lab.partition.key(column), "a", junk)
    hand = lab.worker()
    lab.now += MINUTE
    assert [attempt.stored.definition.id for attempt in hand.claim()] == ["b"]
    assert lab.client.hget(lab.partition.key(column), "a") == junk
    assert lab.due()["a"] == float("inf")
    assert set(lab.column("quarantine")) == {"a"}


def test_a_task_with_a_corrupt_plan_is_repaired_by_saving_it(lab: Lab) -> None:
    stored = lab.create()
    lab.client.hset(lab.partition.key("plan"), "a", "junk")
    lab.is_checked = False
    hand = lab.worker()
    lab.now += MINUTE
    assert hand.claim() == ()
    lab.edit(stored, at(T0 + HOUR), timeout_ms=1)
    lab.is_checked = True
    assert lab.column("quarantine") == {}
    lab.now = T0 + HOUR
    assert len(hand.claim()) == 1


def test_a_waiting_run_of_a_corrupt_task_is_kept_and_holds_nobody_up(lab: Lab) -> None:
    lab.create(task("a"), at(T0 + MINUTE))
    lab.create(task("b"), at(T0 + 2 * MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "retry")
    lab.now += MINUTE
    record = lab.client.hget(lab.partition.key("tasks"), "a")
    lab.client.hset(lab.partition.key("tasks"), "a", b"junk")
    assert [attempt.stored.definition.id for attempt in hand.claim(1)] == ["b"]
    assert hand.claim() == ()
    assert set(lab.column("quarantine")) == {"a"}
    lab.client.hset(lab.partition.key("tasks"), "a", record)
    lab.now += 30_000
    assert hand.one().number == 2


def test_an_attempt_whose_body_cannot_be_read_is_handed_out_as_unreadable(lab: Lab) -> None:
    lab.create()
    header, _, _ = lab.client.hget(lab.partition.key("tasks"), "a").partition(b"\n")
    lab.client.hset(lab.partition.key("tasks"), "a", header + b"\n\xc1")
    hand = lab.worker()
    lab.now += MINUTE
    answer = hand.claimed()
    assert answer.attempts == ()
    ((run_id, token, queue),) = answer.unreadable
    assert (run_id.startswith("a:"), token > 0, queue) == (True, True, "default")


PATH = "app.tasks.work"


def test_a_task_nobody_may_call_backs_off_to_half_a_minute_and_is_reported(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    delays = []
    for _ in range(8):
        assert hand.claim(refused=(PATH,)) == ()
        (due,) = lab.due().values()
        delays.append(int(due) - lab.now)
        lab.now = int(due)
    assert delays == [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
    state = lab.state()
    assert state and state.unroutable


def test_a_worker_that_may_call_it_gets_it_at_once(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    poor, capable = lab.worker(), lab.worker()
    lab.now += MINUTE
    poor.claim(refused=(PATH,))
    assert len(capable.claim()) == 1
    state = lab.state()
    assert state and state.unroutable is None


def test_a_run_that_cannot_be_imported_goes_to_another_worker_without_costing_an_attempt(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    poor, capable = lab.worker(), lab.worker()
    lab.now += MINUTE
    first = poor.one()
    assert poor.settle(first, "unroutable", text=f"{PATH} No module named app")
    state = lab.state()
    assert state and state.unroutable and "No module named app" in state.unroutable
    assert poor.claim(refused=(PATH,)) == ()
    second = capable.one()
    assert (second.run_id, second.number) == (first.run_id, 1)
    assert second.token > first.token
    assert capable.settle(second)
    assert lab.state() is None


def test_a_refused_head_does_not_starve_the_rest(lab: Lab) -> None:
    lab.put(*(lab.save_of(task(f"bad{i:03}"), at(T0 + 1)) for i in range(60)))
    lab.create(task("good", path="app.tasks.good"), at(T0 + 2))
    hand = lab.worker()
    lab.now += MINUTE
    found: list[str] = []
    for _ in range(20):
        found += [attempt.stored.definition.id for attempt in hand.claim(1, refused=(PATH,))]
    assert found == ["good"]


def test_a_running_run_of_a_quarantined_task_can_end(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.is_checked = False
    lab.client.hset(lab.partition.key("tasks"), "a", b"junk")
    assert hand.settle(attempt)
    assert lab.client.hget(lab.partition.key("tasks"), "a") == b"junk"


def test_a_corrupt_attempt_does_not_stop_its_worker_from_claiming_or_being_reaped(lab: Lab) -> None:
    lab.create(task("a"), at(T0 + 1))
    lab.create(task("b"), at(T0 + 1))
    hand = lab.worker()
    lab.now += 1
    first, second = hand.claim()
    lab.is_checked = False
    lab.client.hset(lab.partition.live(hand.boot), first.run_id, b"junk")
    assert lab.send(hand.ask()).attempts == (second,)
    lab.now += MINUTE
    assert lab.once(calls.reap(lab.partition, hand.expired, 3)) == ("reaped", 1, 1)
    assert lab.client.hget(lab.partition.live(hand.boot), first.run_id) == b"junk"
