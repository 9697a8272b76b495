"""Claiming: who may, what is handed out, in which order, and how often."""

from lab import HOUR, LEASE, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, planning
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Misfire, Outcome, Overlap, Plan, Segment

SKIP = Overlap.SKIP


def test_an_unknown_boot_is_refused_and_creates_nothing(lab: Lab) -> None:
    lab.create()
    lab.now += MINUTE
    before = lab.dump()
    answer = lab.send(calls.claim(lab.partition, "7", 1, 10, ["default"]))
    assert (answer.status, answer.attempts) == ("refused", ())
    assert lab.dump() == before


def test_a_repeated_claim_gives_the_same_attempts(lab: Lab) -> None:
    lab.create(task("a"))
    lab.create(task("b"))
    hand = lab.worker()
    lab.now += MINUTE
    hand.seq = 1
    first, second = lab.both(hand.ask())
    assert len(first.attempts) == 2
    assert sorted(second.attempts, key=lambda a: a.run_id) == sorted(first.attempts, key=lambda a: a.run_id)


def test_a_repeated_claim_gives_only_what_is_still_held(lab: Lab) -> None:
    lab.create(task("a"))
    lab.create(task("b"))
    hand = lab.worker()
    lab.now += MINUTE
    first, second = hand.claim()
    hand.settle(first)
    lab.now += HOUR
    assert lab.send(hand.ask()).attempts == (second,)


def test_a_claim_out_of_turn_has_no_effect(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.one()
    lab.now += MINUTE
    before = lab.dump()
    for seq in (0, 3, 99):
        assert lab.send(hand.ask(seq=seq)).status == "out-of-turn"
    assert lab.dump() == before


def test_an_occurrence_is_claimed_when_it_is_due_and_not_before(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now = T0 + MINUTE - 1
    early = hand.claimed()
    assert (early.attempts, early.next_due_ms, early.has_backlog) == ((), 1, False)
    lab.now += 1
    attempt = hand.one()
    assert (attempt.nominal_ms, attempt.number, attempt.losses, attempt.previous_ms) == (T0 + MINUTE, 1, 0, None)


def test_every_run_knows_the_one_before(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    lab.now += MINUTE
    assert hand.one().previous_ms == first.nominal_ms


def test_two_workers_never_get_the_same_occurrence(lab: Lab) -> None:
    lab.create()
    one, two = lab.worker(), lab.worker()
    lab.now += MINUTE
    assert len(one.claim()) == 1
    assert two.claim() == ()


def test_every_grant_has_a_token_above_all_before(lab: Lab) -> None:
    lab.create(task("a"))
    lab.create(task("b"))
    hand = lab.worker()
    tokens = []
    for _ in range(3):
        lab.now += MINUTE
        tokens += [attempt.token for attempt in hand.claim()]
    assert tokens == sorted(set(tokens)) and len(tokens) == 6


def test_tokens_rise_though_the_clock_steps_back(lab: Lab) -> None:
    lab.create(task("a"), at(T0 + MINUTE, T0 + HOUR))
    lab.create(task("b"), at(T0 + 2))
    hand = lab.worker()
    lab.now += MINUTE
    high = max(attempt.token for attempt in hand.claim())
    lab.create(task("c"), at(T0 + MINUTE + 1))
    lab.now -= 30_000
    lab.create(task("d"), at(lab.now + 1))
    lab.now += 1
    assert hand.one().token > high


def test_nothing_fires_twice_after_the_clock_steps_back(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one())
    lab.now -= MINUTE // 2
    assert hand.claim() == ()
    lab.now += MINUTE // 2
    assert hand.claim() == ()


def test_a_claim_takes_no_more_than_it_has_slots_and_tells_of_the_rest(lab: Lab) -> None:
    lab.put(*(lab.save_of(task(f"t{i:02}"), at(T0 + 1 + i)) for i in range(30)))
    hand = lab.worker()
    lab.now += MINUTE
    answer = hand.claimed(20)
    assert [attempt.stored.definition.id for attempt in answer.attempts] == [f"t{i:02}" for i in range(20)]
    assert answer.has_backlog
    assert len(hand.claim(20)) == 10


def test_a_worker_claims_from_its_queues_only_and_names_the_queue(lab: Lab) -> None:
    lab.create(task("a", queue="mail"))
    lab.create(task("b", queue="other"))
    hand = lab.worker("default", "mail")
    lab.now += MINUTE
    assert [(a.stored.definition.id, a.queue) for a in hand.claim()] == [("a", "mail")]


def test_an_empty_schedule_has_no_next_instant(lab: Lab) -> None:
    assert lab.worker().claimed().next_due_ms is None


def test_exactly_as_many_runs_as_iterations_are_admitted(lab: Lab) -> None:
    lab.create(task(iterations=3))
    hand = lab.worker()
    for i in range(3):
        lab.now += MINUTE
        attempt = hand.one()
        state = lab.state()
        assert state and state.iterations_left == 2 - i
        hand.settle(attempt)
    lab.now += MINUTE
    assert hand.claim() == ()
    assert lab.state() is None
    assert lab.ledger()[-1] == ("ended", "a", "iterations")


def test_a_retry_and_a_redelivery_cost_no_iteration(lab: Lab) -> None:
    lab.create(task(iterations=1))
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "retry")
    lab.now += 1
    hand.one()
    lab.now += MINUTE
    hand.reaped()
    other = lab.worker()
    last = other.one()
    assert last.number == 3
    assert other.settle(last)
    assert lab.state() is None


def test_a_task_that_ended_leaves_the_schedule_at_once_and_is_removed_with_its_last_run(lab: Lab) -> None:
    lab.create(task(iterations=2))
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    lab.now += MINUTE
    second = hand.one()
    assert lab.due() == {}
    hand.settle(second)
    assert lab.state() is not None
    hand.settle(first)
    assert lab.state() is None


def test_an_ended_task_leaves_no_key_behind(lab: Lab) -> None:
    lab.create(task("a", iterations=1, overlap=SKIP, label="daily"))
    lab.create(task("b"), at(T0 + MINUTE))
    lab.create(task("c"), Plan((Segment(T0 + MINUTE, MINUTE, 1),), True))
    hand = lab.worker()
    lab.now += MINUTE
    for attempt in hand.claim():
        hand.settle(attempt)
    lab.send(calls.leave(lab.partition, hand.boot))
    assert set(lab.dump()) == {"meta", "history", "replies", "reply_times"}


def test_without_overlap_an_occurrence_beside_an_open_run_is_skipped_and_recorded(lab: Lab) -> None:
    lab.create(task(overlap=SKIP))
    hand, other = lab.worker(), lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.now += MINUTE
    assert other.claim() == ()
    hand.settle(attempt)
    lab.now += MINUTE
    assert other.one().nominal_ms == T0 + 3 * MINUTE
    assert lab.ledger() == [("skip", "a", "overlap", 1, T0 + 2 * MINUTE, T0 + 2 * MINUTE), ("run", "a", "ok", 1)]


def test_without_overlap_a_run_that_waits_for_its_retry_is_open(lab: Lab) -> None:
    lab.create(task(overlap=SKIP))
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "retry", delay_ms=10 * MINUTE)
    lab.now += MINUTE
    assert hand.claim() == ()


def test_without_overlap_a_dead_workers_run_is_open_until_it_ends(lab: Lab) -> None:
    lab.create(task(overlap=SKIP), every(first=T0 + 1))
    dead, other = lab.worker(), lab.worker()
    lab.now += 1
    dead.one()
    lab.now += MINUTE
    assert other.claim() == ()
    dead.reaped()
    assert other.one().number == 2
    lab.now += MINUTE
    assert other.claim() == ()


def test_with_overlap_runs_of_a_task_are_open_side_by_side(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    for open_runs in (1, 2, 3):
        lab.now += MINUTE
        hand.one()
        state = lab.state()
        assert state and state.open_runs == open_runs


def test_jitter_delays_the_due_instant_and_not_the_nominal_one(lab: Lab) -> None:
    lab.create(task(jitter_ms=MINUTE // 2))
    hand = lab.worker()
    (due,) = lab.due().values()
    share = planning.jitter_ms("a", T0 + MINUTE, MINUTE // 2)
    assert due == T0 + MINUTE + share and 0 < share < MINUTE // 2
    lab.now = int(due) - 1
    assert hand.claim() == ()
    lab.now += 1
    assert hand.one().nominal_ms == T0 + MINUTE


def test_a_run_that_ended_is_the_tasks_last(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "failed", started_ms=lab.now + 5, duration_ms=7)
    state = lab.state()
    assert state and state.last and state.last.outcome == Outcome.FAILED
    assert (state.last.nominal_ms, state.last.started_ms, state.last.duration_ms) == (T0 + MINUTE, lab.now + 5, 7)


def test_one_idle_worker_holds_the_watch_and_gives_it_up_when_it_is_busy(lab: Lab) -> None:
    lab.create()
    one, two = lab.worker(), lab.worker()
    lab.now = T0 + MINUTE - 5000
    assert (one.claimed().watch, two.claimed().watch) == (1, 0)
    lab.now = T0 + MINUTE
    assert one.claimed(1).watch == 2
    assert two.claimed(1).watch == 1


def test_a_dead_watcher_is_replaced_when_its_time_has_passed(lab: Lab) -> None:
    lab.create()
    one, two = lab.worker(), lab.worker()
    assert (one.claimed().watch, two.claimed().watch) == (1, 0)
    lab.now += 10_501
    assert two.claimed().watch == 1


def test_a_sooner_task_gets_a_watcher(lab: Lab) -> None:
    one, two = lab.worker(), lab.worker()
    assert (one.claimed().watch, two.claimed().watch) == (1, 0)
    lab.create(plan=at(T0 + 1000))
    assert two.claimed().watch == 1


def test_claims_do_not_prolong_a_lease(lab: Lab) -> None:
    hand = lab.worker()
    lab.now += LEASE
    hand.claim()
    assert hand.reaped()[0] == "reaped"


def test_a_repeated_claim_gives_no_code_of_a_new_task_to_a_run_of_the_old_one(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    hand.seq += 1
    lab.once(hand.ask())
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    lab.create(task(path="app.tasks.other"))
    again = lab.once(hand.ask())
    assert again.attempts == ()
    ((run_id, token, queue),) = again.unreadable
    end = Settlement(run_id, token, "unroutable", queue, text="- gone")
    assert lab.send(calls.settle(lab.partition, hand.boot, hand.name, [end])) == ["settled"]
    assert lab.ledger()[-1] == ("run", "a", "cancelled", 1)


def test_a_repeated_claim_gives_nothing_of_an_earlier_one(lab: Lab) -> None:
    lab.create(task("a"))
    hand = lab.worker()
    lab.now += MINUTE
    (first,) = hand.claim()
    lab.now += MINUTE
    (second,) = hand.claim()
    assert lab.once(hand.ask()).attempts == (second,)
    assert first != second


def test_a_claim_looks_at_a_hundred_elements_at_most(lab: Lab) -> None:
    lab.put(*(lab.save_of(task(f"t{i:03}", path=f"app.p{i % 5}.f"), at(T0 + 1)) for i in range(130)))
    hand = lab.worker()
    lab.now += 2
    refused = tuple(f"app.p{i}.f" for i in range(5))
    assert hand.claimed(100, refused).has_backlog
    assert sum(score > lab.now for score in lab.due().values()) == 100


def test_the_instant_beside_a_schedule_is_ledgered_when_the_plan_is_too_short(lab: Lab) -> None:
    lab.create(task(misfire=Misfire.ALL), at(T0 + MINUTE, complete=False), beside="now")
    hand = lab.worker()
    lab.now += 50 * HOUR
    assert len(hand.claimed().replans) == 1
    assert lab.ledger() == [("skip", "a", "coalesced", 1, T0, T0)]
