"""Boot ids, leases, the server's clock, and what becomes of a dead worker's attempts."""

from dataclasses import replace

import pytest
from lab import HOUR, LEASE, MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis import calls
from sisy_redis.calls import Expired, Reaped
from sisy_redis.definitions import Overlap


def _pair(lab: Lab) -> tuple[Hand, Hand]:
    """Two workers and a due run; the first is about to die."""
    lab.create(plan=every(first=T0 + 1))
    dead, other = lab.worker(), lab.worker(name="host:2")
    lab.now += 1
    return dead, other


def _lose(lab: Lab, hand: Hand) -> tuple[str, int, int]:
    lab.now += LEASE
    return hand.reaped()


def _deadline(lab: Lab, hand: Hand) -> int:
    return int(lab.client.zscore(lab.partition.key("leases"), hand.boot) or 0)


def test_a_repeated_registration_gives_the_same_boot(lab: Lab) -> None:
    first, second = lab.both(calls.register(lab.partition, lab.op(), LEASE, ["default"], "host:1"))
    assert first.boot == second.boot


def test_a_boot_id_is_never_used_again(lab: Lab) -> None:
    first = lab.worker()
    lab.send(calls.leave(lab.partition, first.boot))
    second = lab.worker()
    lab.now -= 1000 * MINUTE
    third = lab.worker()
    assert len({first.boot, second.boot, third.boot}) == 3


@pytest.mark.parametrize("age", [-600_001, 600_001])
def test_a_registration_made_long_ago_or_in_the_future_is_refused(lab: Lab, age: int) -> None:
    answer = lab.send(calls.register(lab.partition, lab.op(T0 + age), LEASE, ["default"], "host:1"))
    assert answer.boot is None
    assert lab.dump() == {}


def test_a_repeat_is_recognised_after_the_clock_stepped_an_hour_forward_and_back(lab: Lab) -> None:
    first = calls.register(lab.partition, lab.op(), LEASE, ["default"], "host:1")
    boot = lab.send(first).boot
    lab.now += 60 * MINUTE
    lab.worker()
    lab.now -= 60 * MINUTE - 5000
    assert lab.send(first).boot == boot


def test_replies_are_kept_for_more_than_an_hour_and_not_for_ever(lab: Lab) -> None:
    for _ in range(30):
        lab.worker()
    lab.now += 75 * MINUTE + 1
    for _ in range(5):
        lab.worker()
    assert len(lab.column("replies")) == 5


def test_renewing_prolongs_the_lease(lab: Lab) -> None:
    hand = lab.worker()
    lab.now += 5000
    assert hand.renew() == calls.Renewed(False)
    assert _deadline(lab, hand) == lab.now + LEASE


def test_renewing_an_unknown_boot_is_refused_and_creates_nothing(lab: Lab) -> None:
    assert lab.send(calls.renew(lab.partition, "7")).is_refused
    assert lab.dump() == {}


def test_renewing_names_the_workers_whose_lease_ran_out(lab: Lab) -> None:
    dead, other = lab.worker("default", "mail"), lab.worker()
    lab.now += LEASE - 1
    assert other.renew().expired == ()
    lab.now += 1
    assert other.renew().expired == (Expired(dead.boot, "default,mail", "host:1"),)


def test_a_worker_that_holds_nothing_leaves_no_key_behind(lab: Lab) -> None:
    hand = lab.worker()
    lab.create(plan=at(T0 + MINUTE))
    lab.now += MINUTE
    hand.settle(hand.one())
    assert lab.send(calls.leave(lab.partition, hand.boot)) == "left"
    assert set(lab.dump()) <= {"meta", "history", "replies", "reply_times"}
    assert "watch" not in lab.column("meta")


def test_a_worker_that_leaves_with_attempts_is_reaped_at_once(lab: Lab) -> None:
    hand, other = _pair(lab)
    run = hand.one()
    assert lab.send(calls.leave(lab.partition, hand.boot)) == "abandoned"
    assert [row.boot for row in other.renew().expired] == [hand.boot]
    assert hand.reaped() == ("reaped", 1, 0)
    assert other.one().run_id == run.run_id


def test_a_worker_with_a_lease_is_not_reaped(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += LEASE - 1
    assert hand.reaped() == ("alive", 0, 0)


def test_reaping_an_unknown_worker_does_nothing(lab: Lab) -> None:
    assert lab.send(calls.reap(lab.partition, Expired("7", "default", "x"))) == Reaped("gone", 0, 0)


def test_a_dead_workers_runs_are_redelivered_with_the_next_attempt_number_and_a_new_token(lab: Lab) -> None:
    dead, other = _pair(lab)
    first = dead.one()
    assert _lose(lab, dead) == ("reaped", 1, 0)
    second = other.one()
    assert (second.run_id, second.number, second.losses) == (first.run_id, 2, 1)
    assert second.token > first.token
    assert lab.ledger() == [("run", "a", "redelivered", 1)]


def test_a_reaped_boot_is_refused_for_good(lab: Lab) -> None:
    dead, other = _pair(lab)
    attempt = dead.one()
    _lose(lab, dead)
    before = lab.dump()
    assert dead.renew().is_refused
    assert lab.send(dead.ask()).status == "refused"
    assert lab.send(dead.ask(seq=dead.seq + 1)).status == "refused"
    assert not dead.settle(attempt)
    assert not lab.send(calls.start(lab.partition, dead.boot, attempt.run_id, attempt.token))
    assert lab.dump() == before
    assert other.settle(other.one())


def test_reaping_takes_a_hundred_attempts_a_call_and_marks_the_boot_dead_first(lab: Lab) -> None:
    lab.put(*(lab.save_of(task(f"t{i:03}"), at(T0 + 1)) for i in range(130)))
    hand = lab.worker()
    lab.now += 2
    assert len(hand.claim(100)) == 100
    assert len(hand.claim(100)) == 30
    lab.now += LEASE
    reap = calls.reap(lab.partition, hand.expired)
    assert lab.once(reap) == Reaped("reaped", 100, 30)
    assert hand.renew().is_refused
    assert lab.send(hand.ask(seq=hand.seq + 1)).status == "refused"
    assert lab.once(reap) == Reaped("reaped", 30, 0)
    assert lab.once(reap) == Reaped("gone", 0, 0)
    assert hand.boot not in lab.column("workers")
    assert len(lab.column("waiting")) == 130


def _rounds(lab: Lab, count: int, *, starts: bool, max_losses: int) -> list[str]:
    """What the ledger says after ``count`` workers died with the run."""
    lab.create(task(max_redeliveries=max_losses), at(T0 + 1))
    lab.now += 1
    for _ in range(count):
        hand = lab.worker()
        attempt = hand.one()
        if starts:
            assert lab.send(calls.start(lab.partition, hand.boot, attempt.run_id, attempt.token))
        lab.now += LEASE + 1
        hand.reaped()
    return [line[2] for line in lab.ledger()]


def test_a_run_is_lost_after_max_losses_redeliveries_that_had_started(lab: Lab) -> None:
    assert _rounds(lab, 4, starts=True, max_losses=3) == ["redelivered"] * 3 + ["lost", "end"]
    assert lab.state() is None
    assert set(lab.dump()) <= {"meta", "history", "reports", "replies", "reply_times", "dead", "dead_times"}


def _die(lab: Lab, hand: Hand) -> int:
    """The worker claims what is due, begins it and dies; how much it was."""
    attempts = hand.claim()
    for attempt in attempts:
        assert lab.send(calls.start(lab.partition, hand.boot, attempt.run_id, attempt.token))
    lab.now += LEASE
    hand.reaped()
    return len(attempts)


def test_what_died_together_twice_does_not_begin_together_again(lab: Lab) -> None:
    lab.put(*(lab.save_of(task(f"t{i}"), at(T0 + 1)) for i in range(3)))
    lab.now += 2
    assert [_die(lab, lab.worker()) for _ in range(2)] == [3, 3]
    hand = lab.worker()
    assert [attempt.losses for attempt in hand.claim()] == [2]
    lab.now += 1000
    assert [attempt.losses for attempt in hand.claim()] == [2, 2]


def test_losses_before_a_start_do_not_count_but_the_first(lab: Lab) -> None:
    assert _rounds(lab, 8, starts=False, max_losses=1) == ["redelivered"] * 8
    assert lab.worker().one().losses == 1


@pytest.mark.parametrize("jump", [-1001, LEASE + 1])
def test_after_a_clock_jump_nobody_is_reaped_for_a_lease(lab: Lab, jump: int) -> None:
    other = lab.worker()
    other.renew()
    dead = lab.worker()
    lab.now += jump
    assert other.renew().expired == ()
    lab.now += LEASE - 1
    other.renew()
    assert dead.reaped()[0] == "alive"
    lab.now += max(1, 1 - jump)
    assert [row.boot for row in other.renew().expired] == [dead.boot]


@pytest.mark.parametrize("step", [-1000, LEASE])
def test_a_small_step_of_the_clock_is_no_jump(lab: Lab, step: int) -> None:
    other = lab.worker()
    other.renew()
    lab.now += step
    other.renew()
    assert "quiet_until" not in lab.column("meta")


@pytest.mark.parametrize("caller", ["short", "long"])
def test_a_jump_gives_workers_of_every_lease_time_to_renew(lab: Lab, caller: str) -> None:
    short, long = lab.worker(lease_ms=3_000), lab.worker(lease_ms=60_000)
    for _ in range(2):
        lab.now += 1_000
        short.renew()
        long.renew()
    asks, other = (short, long) if caller == "short" else (long, short)
    lab.now += 2 * HOUR
    for _ in range(24):
        assert asks.renew().expired == ()
        lab.now += 2_500
    assert [row.boot for row in asks.renew().expired] == [other.boot]


def test_a_jump_shorter_than_ones_own_lease_is_seen_where_another_has_a_shorter_one(lab: Lab) -> None:
    asks, other = lab.worker(lease_ms=300_000), lab.worker()
    asks.renew()
    other.renew()
    lab.now += 2 * MINUTE
    assert asks.renew().expired == ()


def test_a_long_lease_alone_still_reaps(lab: Lab) -> None:
    dead = lab.worker()
    dead.renew()
    asks = lab.worker(lease_ms=300_000)
    expired = []
    for _ in range(8):
        lab.now += 100_000
        expired = [row.boot for row in asks.renew().expired]
    assert expired == [dead.boot]


def test_renewing_names_at_most_ten_dead_workers_and_the_rest_later(lab: Lab) -> None:
    dead = [lab.worker(lease_ms=1_000) for _ in range(12)]
    other = lab.worker(lease_ms=1_000)
    other.renew()
    lab.now += 999
    other.renew()
    lab.now += 1
    first = other.renew().expired
    assert len(first) == 10
    for row in first:
        lab.send(calls.reap(lab.partition, row))
    second = other.renew().expired
    assert {row.boot for row in (*first, *second)} == {hand.boot for hand in dead}


def test_numbers_rise_when_the_servers_clock_steps_back_and_when_the_counter_is_lost(lab: Lab) -> None:
    first = int(lab.worker().boot)
    lab.now -= HOUR
    second = int(lab.worker().boot)
    lab.now += 2 * HOUR
    lab.client.hdel(lab.partition.key("meta"), "sequence")
    third = int(lab.worker().boot)
    lab.client.hset(lab.partition.key("meta"), "sequence", "junk")
    lab.now += 1
    assert first < second < third < int(lab.worker().boot)


def test_an_unstarted_loss_costs_no_attempt(lab: Lab) -> None:
    lab.create(plan=at(T0 + 1))
    dead = lab.worker()
    lab.now += 1
    dead.one()
    _lose(lab, dead)
    for _ in range(3):
        hand = lab.worker()
        assert hand.one().number == 2
        assert _lose(lab, hand) == ("reaped", 1, 0)
    last = lab.worker().one()
    assert (last.number, last.losses) == (2, 1)


def test_a_run_follows_its_task_to_another_queue_when_its_worker_died(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP), at(T0 + MINUTE))
    dead = lab.worker()
    lab.now += MINUTE
    attempt = dead.one()
    lab.edit(stored, queue="new")
    lab.now += LEASE
    answer = lab.send(calls.reap(lab.partition, dead.expired))
    assert answer == Reaped("reaped", 0, 1, ("new",))
    both = replace(dead.expired, queues="default,new")
    assert lab.send(calls.reap(lab.partition, both)) == Reaped("reaped", 1, 0)
    assert [a.run_id for a in lab.worker("new").claim()] == [attempt.run_id]


def test_after_a_step_back_a_dead_worker_does_not_keep_its_runs_for_as_long_as_the_step(lab: Lab) -> None:
    dead, other = lab.worker(), lab.worker()
    lab.now -= 60 * MINUTE
    other.renew()
    assert _deadline(lab, dead) == lab.now + LEASE
    lab.now += LEASE
    assert [row.boot for row in other.renew().expired] == [dead.boot]


def test_a_longer_lease_than_ones_own_is_never_prolonged(lab: Lab) -> None:
    dead, other = lab.worker(lease_ms=10 * LEASE), lab.worker()
    deadline = _deadline(lab, dead)
    for _ in range(12):
        lab.now += LEASE - 1000
        renewed = other.renew()
    assert _deadline(lab, dead) == deadline
    assert [row.boot for row in renewed.expired] == [dead.boot]


def test_the_namespace_keeps_the_partition_count_it_was_opened_with(lab: Lab) -> None:
    assert lab.send(calls.open_namespace(lab.space, 4)) == 4
    assert lab.send(calls.open_namespace(lab.space, 8)) == 4


def test_hints_never_exceed_what_is_useful(lab: Lab) -> None:
    assert lab.send(calls.wake(lab.space, 3)) == 3
    assert lab.send(calls.wake(lab.space, 1)) == 3
    assert lab.dump()["wake"] == [b"1"] * 3


def test_after_a_step_back_nobody_is_named_for_a_lease(lab: Lab) -> None:
    dead, other = lab.worker(), lab.worker()
    lab.now += LEASE - 500
    other.renew()
    lab.now -= 1_001
    other.renew()
    lab.now += 1_501
    assert other.renew().expired == ()
    lab.now += LEASE - 1_501
    assert [row.boot for row in other.renew().expired] == [dead.boot]


def test_a_dead_workers_run_of_a_task_that_was_created_anew_is_not_redelivered(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + 1))
    dead = lab.worker()
    lab.now += 1
    dead.one()
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    lab.create()
    assert _lose(lab, dead) == ("reaped", 1, 0)
    assert lab.column("waiting") == {} and lab.column("open") == {}
    assert lab.ledger()[-1] == ("run", "a", "cancelled", 1)


def test_a_waiting_run_of_a_task_that_was_created_anew_is_not_granted(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + 1))
    hand = lab.worker()
    lab.now += 1
    hand.settle(hand.one(), "retry")
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    lab.create()
    lab.now += 1
    assert hand.claim() == ()
    assert lab.column("waiting") == {} and lab.column("open") == {}
    assert ("run", "a", "cancelled", 0) in lab.ledger()
