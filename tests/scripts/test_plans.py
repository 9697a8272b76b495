"""Plans that run low or ran out."""

from lab import HOUR, MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis import calls
from sisy_redis.calls import PlanState
from sisy_redis.definitions import Dropped, Plan, Reason, Segment


def _ran_out(lab: Lab) -> tuple[Hand, PlanState]:
    """A task whose five planned instants are all late."""
    lab.create(plan=every(count=5))
    hand = lab.worker()
    lab.now += HOUR
    (state,) = hand.claimed().replans
    return hand, state


MISSED = (Dropped(Reason.COALESCED, 58, T0 + MINUTE, T0 + 58 * MINUTE),)
REST = Plan((Segment(T0 + 59 * MINUTE, MINUTE, 10),), False)


def test_a_replanned_task_runs_again_and_its_missed_range_is_recorded(lab: Lab) -> None:
    hand, state = _ran_out(lab)
    first, second = lab.both(calls.replan(lab.partition, state, MISSED, REST))
    assert (first, second) == ("planned", "moved")
    assert lab.ledger() == [("skip", "a", "coalesced", 58, T0 + MINUTE, T0 + 58 * MINUTE)]
    assert [a.nominal_ms for a in (*hand.claim(), *hand.claim())] == [T0 + 59 * MINUTE, T0 + HOUR]


def test_while_one_worker_replans_another_waits_two_seconds_and_then_steps_in(lab: Lab) -> None:
    _, first = _ran_out(lab)
    other = lab.worker()
    assert other.claimed().replans == ()
    lab.now += 2000
    (second,) = other.claimed().replans
    assert (second.version, second.cursor_ms) == (first.version, first.cursor_ms)
    assert lab.send(calls.replan(lab.partition, second, MISSED, REST)) == "planned"
    assert lab.send(calls.replan(lab.partition, first, MISSED, REST)) == "moved"
    assert len(lab.ledger()) == 1


def test_a_late_replan_cannot_bring_back_what_was_decided_since(lab: Lab) -> None:
    hand, first = _ran_out(lab)
    only = Plan((Segment(T0 + 2 * HOUR, 0, 1),), False)
    assert lab.send(calls.replan(lab.partition, first, MISSED, only)) == "planned"
    lab.now = T0 + 2 * HOUR
    assert len(hand.claim()) == 1
    assert lab.send(calls.replan(lab.partition, first, MISSED, REST)) == "moved"


def test_a_replan_of_an_edited_or_deleted_task_has_no_effect(lab: Lab) -> None:
    _, state = _ran_out(lab)
    edited = lab.edit(state.stored, every(first=lab.now + MINUTE), schedule="* * * * *")
    before = lab.dump()
    assert lab.send(calls.replan(lab.partition, state, MISSED, REST)) == "moved"
    assert lab.dump() == before
    lab.send(calls.delete(lab.partition, lab.op(), edited))
    before = lab.dump()
    assert lab.send(calls.replan(lab.partition, state, MISSED, REST)) == "moved"
    assert lab.dump() == before


def test_a_replan_of_a_task_paused_meanwhile_does_not_wake_it(lab: Lab) -> None:
    _, state = _ran_out(lab)
    lab.send(calls.pause(lab.partition, lab.op(), state.stored, "", ""))
    assert lab.send(calls.replan(lab.partition, state, MISSED, REST)) == "planned"
    assert lab.due() == {"a": float("inf")}


def test_a_replan_that_finds_nothing_more_ends_the_task(lab: Lab) -> None:
    hand, state = _ran_out(lab)
    lab.send(calls.pause(lab.partition, lab.op(), state.stored, "", ""))
    assert lab.send(calls.replan(lab.partition, state, MISSED, Plan((), True))) == "planned"
    assert hand.claim() == ()
    assert lab.state() is None
    assert lab.ledger()[-1] == ("ended", "a", "end")


def test_a_range_too_long_to_count_is_recorded_as_such(lab: Lab) -> None:
    _, state = _ran_out(lab)
    lab.send(calls.replan(lab.partition, state, (Dropped(Reason.WINDOW, None, T0 + 1, T0 + HOUR),), REST))
    assert lab.ledger() == [("skip", "a", "window", 0, T0 + 1, T0 + HOUR)]


def _low(lab: Lab) -> PlanState:
    lab.create(plan=every(count=5))
    hand = lab.worker()
    lab.now += MINUTE
    answer = hand.claimed()
    assert len(answer.attempts) == 1
    (state,) = answer.lows
    return state


def test_a_plan_that_runs_low_is_named_with_what_is_left_of_it(lab: Lab) -> None:
    state = _low(lab)
    assert state.plan == every(first=T0 + 2 * MINUTE, count=4)
    assert (state.cursor_ms, state.admitted_ms) == (T0 + MINUTE, T0 + MINUTE)


def test_plans_without_an_end_and_complete_ones_are_not_low(lab: Lab) -> None:
    lab.create(task("a"))
    lab.create(task("b"), every(count=5, complete=True))
    hand = lab.worker()
    lab.now += MINUTE
    assert hand.claimed().lows == ()


def test_an_extension_is_appended_once_even_after_further_claims(lab: Lab) -> None:
    state = _low(lab)
    hand = lab.worker()
    lab.now += MINUTE
    hand.one()
    more = every(first=T0 + 6 * MINUTE, count=2, complete=True)
    call = calls.extend(lab.partition, [(state, T0 + 5 * MINUTE, more)])
    assert lab.both(call) == (["planned"], ["moved"])
    stored = lab.state()
    assert stored and stored.plan
    assert stored.plan.plan == Plan((Segment(T0 + 3 * MINUTE, MINUTE, 3), *more.segments), True)


def test_an_extension_of_another_plan_than_it_was_made_for_has_no_effect(lab: Lab) -> None:
    state = _low(lab)
    more = at(T0 + HOUR)
    assert lab.send(calls.extend(lab.partition, [(state, T0 + 4 * MINUTE, more)])) == ["moved"]
    edited = lab.edit(state.stored, every(count=9), schedule="1 * * * *")
    assert lab.send(calls.extend(lab.partition, [(state, T0 + 5 * MINUTE, more)])) == ["moved"]
    lab.send(calls.delete(lab.partition, lab.op(), edited))
    assert lab.send(calls.extend(lab.partition, [(state, T0 + 5 * MINUTE, more)])) == ["moved"]


def test_resuming_a_task_whose_plan_ran_out_asks_for_another(lab: Lab) -> None:
    stored = lab.create(plan=every(count=5))
    hand = lab.worker()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.now += HOUR
    lab.send(calls.resume(lab.partition, lab.op(), stored))
    assert lab.ledger() == [("skip", "a", "paused", 0, T0 + MINUTE, lab.now)]
    (state,) = hand.claimed().replans
    assert state.cursor_ms == lab.now


def test_a_replan_with_nothing_missed_counts_once(lab: Lab) -> None:
    _, state = _ran_out(lab)
    assert lab.both(calls.replan(lab.partition, state, (), REST)) == ("planned", "moved")


def test_a_late_replan_brings_no_ended_schedule_back(lab: Lab) -> None:
    hand, state = _ran_out(lab)
    lab.send(calls.trigger(lab.partition, lab.op(), state.stored, counts=False))
    assert len(hand.claim()) == 1
    assert lab.send(calls.replan(lab.partition, state, (), Plan((), True))) == "planned"
    assert lab.send(calls.replan(lab.partition, state, (), REST)) == "moved"


def test_an_extension_of_an_older_schedule_has_no_effect_though_the_plans_end_alike(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + 1, T0 + HOUR, complete=False))
    hand = lab.worker()
    lab.now += 1
    (low,) = hand.claimed().lows
    lab.edit(stored, at(T0 + MINUTE, T0 + HOUR, complete=False), schedule="1 * * * *")
    more = at(T0 + 2 * HOUR)
    assert lab.send(calls.extend(lab.partition, [(low, T0 + HOUR, more)])) == ["moved"]


def test_an_extension_brings_no_ended_schedule_back(lab: Lab) -> None:
    lab.create(plan=at(T0 + 1, T0 + HOUR, complete=False))
    hand = lab.worker()
    lab.now += 1
    (low,) = hand.claimed().lows
    assert lab.send(calls.extend(lab.partition, [(low, T0 + HOUR, Plan((), True))])) == ["planned"]
    assert lab.send(calls.extend(lab.partition, [(low, T0 + HOUR, at(T0 + 2 * HOUR))])) == ["moved"]
