"""What cannot be understood or called is put aside with its bytes intact, and nothing else waits for it."""

import pytest
from lab import HOUR, LEASE, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls
from sisy_redis.calls import Settlement, Unplannable
from sisy_redis.definitions import Overlap

pytestmark = pytest.mark.corrupts


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
    lab.client.hset(lab.partition.live(hand.boot), first.run_id, b"junk")
    assert lab.send(hand.ask()).attempts == (second,)
    lab.now += MINUTE
    assert hand.reaped() == ("reaped", 2, 0)
    assert lab.column("quarantine") == {"a": f"what a dead worker held of run {first.run_id} could not be read: junk"}
    again = lab.worker().claim()
    assert sorted(attempt.run_id for attempt in again) == [first.run_id, second.run_id]


@pytest.mark.parametrize("column", ["open", "remaining"])
def test_a_count_that_cannot_be_read_parks_its_task_and_loses_nothing_of_the_others(lab: Lab, column: str) -> None:
    lab.create(task("a"))
    lab.create(task("b", iterations=5))
    hand = lab.worker()
    lab.now += MINUTE
    first, second = hand.claim()
    hand.settle(first, "retry")
    lab.client.hset(lab.partition.key(column), "b", "junk")
    lab.is_checked = False
    lab.now += MINUTE
    assert {attempt.run_id.partition(":")[0] for attempt in hand.claim()} == {"a"}
    assert lab.column("waiting") == {} and lab.column("open")["a"].startswith("2 ")
    assert "cannot be read" in lab.column("quarantine")["b"]
    assert lab.due()["b"] == float("inf") and "b" in lab.column("tasks")
    assert second.run_id.startswith("b:")


@pytest.mark.parametrize("segments", ["garbage.", "1:2:3,garbage.", "1:2:3x", "1:2", "1:2:3,,4:5:6", "!x."])
def test_a_plan_with_garbage_in_it_is_parked_whole(lab: Lab, segments: str) -> None:
    stored = lab.create()
    hand = lab.worker()
    column = f"{stored.generation} {stored.version} {T0} - {segments}"
    lab.client.hset(lab.partition.key("plan"), "a", column)
    lab.is_checked = False
    lab.now += MINUTE
    assert hand.claim() == ()
    assert lab.column("plan") == {"a": column} and "a" in lab.column("tasks")
    assert lab.column("quarantine") == {"a": "the plan cannot be read"}


def test_a_run_that_ends_while_its_plan_cannot_be_read_frees_its_task(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.client.hset(lab.partition.key("plan"), "a", "garbage")
    lab.is_checked = False
    assert hand.settle(attempt)
    assert lab.ledger() == [("run", "a", "ok", 1)]
    assert lab.column("open") == {}
    lab.edit(stored, every(first=lab.now + MINUTE), schedule="1 * * * *")
    lab.is_checked = True
    lab.now += 2 * MINUTE
    assert len(hand.claim()) == 1


def test_a_task_that_cannot_be_read_when_its_last_run_ends_is_reported(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.client.hset(lab.partition.key("tasks"), "a", b"9 junk")
    lab.is_checked = False
    hand.settle(attempt)
    assert lab.column("quarantine") == {"a": "the task cannot be read"}


def test_a_waiting_run_whose_fields_are_gone_is_reported_and_still_counts(lab: Lab) -> None:
    lab.create(task(overlap=Overlap.SKIP))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    hand.settle(attempt, "retry")
    lab.client.hdel(lab.partition.key("waiting"), attempt.run_id)
    lab.is_checked = False
    lab.now += 1
    assert hand.claim() == ()
    assert lab.column("open") == {"a": f"1 {T0 + MINUTE}"}
    assert "a waiting run" in lab.column("quarantine")["a"]


def test_a_run_of_a_task_whose_body_cannot_be_read_backs_off(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    key = lab.partition.key("tasks")
    header = lab.client.hget(key, "a").split(b"\n")[0]
    lab.client.hset(key, "a", header + b"\n\xc1")
    lab.is_checked = False
    grants = 0
    for _ in range(10):
        for run_id, token, queue in hand.claimed().unreadable:
            grants += 1
            end = Settlement(run_id, token, "unroutable", queue, text="- its record cannot be read")
            lab.once(calls.settle(lab.partition, hand.boot, hand.name, [end]))
    assert grants == 1


def test_a_task_whose_body_cannot_be_read_when_its_plan_ran_out_is_offered_to_others(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE, complete=False))
    hand = lab.worker()
    key = lab.partition.key("tasks")
    header = lab.client.hget(key, "a").split(b"\n")[0]
    lab.client.hset(key, "a", header + b"\n\xc1")
    lab.now += 3 * HOUR
    (lost,) = hand.claimed().unplannable
    assert (lost.task_id, lost.queue) == ("a", "default") and "cannot be read" in lost.reason
    call = calls.postpone(lab.partition, lab.op(), lost)
    assert lab.both(call) == ("postponed", "postponed")
    assert lab.due() == {"a": lab.now + 1000}
    assert "cannot be read" in lab.column("unroutable")["a"]
    assert lab.once(calls.postpone(lab.partition, lab.op(T0 - HOUR), lost)) == "expired"


def test_a_task_that_was_planned_meanwhile_is_not_postponed(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE, complete=False))
    hand = lab.worker()
    lab.now += 3 * HOUR
    (state,) = hand.claimed().replans
    lab.send(calls.replan(lab.partition, state, (), every(first=lab.now + 1)))
    lost = Unplannable("a", state.column, "default", "no such zone", "app.tasks.work")
    assert lab.send(calls.postpone(lab.partition, lab.op(), lost)) == "moved"
    assert lab.due() == {"a": lab.now + 1}


def test_an_id_with_spaces_is_reported_and_offered_as_any_other(lab: Lab) -> None:
    lab.create(task("my job"))
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "unroutable", text=f"{PATH} no such module")
    state = lab.state("my job")
    assert state and state.unroutable == "no such module"
    assert len(lab.worker().claim()) == 1


def test_dead_workers_with_attempts_nobody_can_read_hide_no_others(lab: Lab) -> None:
    for i in range(10):
        hand = lab.worker(name=f"dead:{i}")
        lab.client.hset(lab.partition.live(hand.boot), f"x{i}:1:1", "junk")
    lab.is_checked = False
    lab.now += 1
    late, other = lab.worker(), lab.worker(lease_ms=600_000)
    lab.now += LEASE
    named = []
    for _ in range(2):
        expired = other.renew().expired
        named += [row.boot for row in expired]
        for row in expired:
            lab.once(calls.reap(lab.partition, row))
    assert late.boot in named


def test_a_run_whose_task_cannot_be_read_at_all_ends_as_it_did(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    for column in ("tasks", "plan"):
        lab.client.hset(lab.partition.key(column), "a", "junk")
    lab.is_checked = False
    assert hand.settle(attempt)
    assert lab.ledger() == [("run", "a", "ok", 1)]
    assert lab.column("open") == {}
