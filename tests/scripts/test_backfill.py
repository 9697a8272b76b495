"""Running past instants again, a few at a time."""

import pytest
from lab import HOUR, MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis import backfills, calls
from sisy_redis.definitions import Overlap, Stored
from sisy_redis.errors import TaskBusy, TaskError


def _start(lab: Lab, stored: Stored, minutes: int, max_running: int = 1) -> str:
    begin = lab.now - minutes * MINUTE
    return lab.transport.run(backfills.start(lab.space, stored, begin, lab.now, max_running))


def _minutes(lab: Lab, hand: Hand, slots: int = 10) -> list[tuple[int, object]]:
    return [((a.nominal_ms - T0) // MINUTE, a) for a in hand.claim(slots)]


def _state(lab: Lab) -> backfills.Backfill | None:
    return lab.transport.run(backfills.current(lab.space, "a"))


def test_past_instants_run_in_order_as_many_at_once_as_asked(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), at(T0 + HOUR))
    hand = lab.worker()
    _start(lab, stored, 5, 2)
    ran = []
    open_now = _minutes(lab, hand)
    assert len(open_now) == 2 and hand.claim() == ()
    while open_now:
        minute, attempt = open_now.pop(0)
        ran.append(minute)
        hand.settle(attempt, "failed" if minute == -3 else "ok")  # type: ignore[arg-type]
        open_now += _minutes(lab, hand)
        assert len(open_now) <= 2
    assert ran == [-5, -4, -3, -2, -1] and _state(lab) is None
    assert ("backfill", "a", ran and lab.ledger()[-1][2]) == lab.ledger()[
        -1
    ] and "5 of 5 ran, 1 not well" in lab.ledger()[-1][2]


def test_a_backfill_keeps_to_overlap_and_waits_for_other_runs(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *", overlap=Overlap.SKIP), at(T0 + MINUTE, T0 + HOUR))
    hand = lab.worker()
    lab.now += MINUTE
    regular = hand.one()
    _start(lab, stored, 3, 5)
    assert hand.claim() == ()
    hand.settle(regular)
    for minute in (-2, -1, 0):
        ((found, attempt),) = _minutes(lab, hand)
        assert found == minute
        hand.settle(attempt)  # type: ignore[arg-type]
    assert _state(lab) is None


def test_its_runs_have_intervals_cost_no_iteration_and_leave_the_last_run_alone(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *", iterations=3), at(T0 + HOUR))
    hand = lab.worker()
    _start(lab, stored, 2)
    first = hand.one()
    hand.settle(first)
    second = hand.one()
    assert (first.previous_ms, second.previous_ms) == (None, first.nominal_ms)
    hand.settle(second)
    assert lab.column("remaining") == {"a": "3"} and lab.column("last") == {}


def test_a_killed_workers_backfill_goes_on(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), at(T0 + HOUR))
    dead = lab.worker()
    _start(lab, stored, 2)
    first = dead.one()
    lab.now += MINUTE
    dead.reaped()
    other = lab.worker()
    again = other.one()
    assert again.run_id == first.run_id
    other.settle(again)
    other.settle(other.one())
    assert _state(lab) is None


def test_a_task_that_has_ended_stays_until_its_backfill_is_done(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), every(count=1, complete=True))
    hand = lab.worker()
    _start(lab, stored, 2)
    first = hand.one()
    lab.now += MINUTE
    regular = hand.one()
    hand.settle(regular)
    hand.settle(first)
    assert lab.state() is not None
    hand.settle(hand.one())
    assert lab.state() is None


def test_a_backfill_shows_how_far_it_is_and_can_be_ended(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), at(T0 + HOUR))
    hand = lab.worker()
    name = _start(lab, stored, 5)
    attempt = hand.one()
    assert _state(lab) == backfills.Backfill(name, "a", 5, 0, 0, 1, 1)
    with pytest.raises(TaskBusy):
        _start(lab, stored, 5)
    lab.transport.run(backfills.end(lab.space, "a", name))
    hand.settle(attempt)
    assert hand.claim() == () and _state(lab) is None


def test_a_deleted_tasks_backfill_goes_with_it(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), at(T0 + HOUR))
    hand = lab.worker()
    _start(lab, stored, 5)
    attempt = hand.one()
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    lab.create()
    hand.settle(attempt)
    assert hand.claim() == () and _state(lab) is None


@pytest.mark.parametrize(
    ("fields", "begin", "end", "said"),
    [
        ({"schedule": "@once"}, T0 - HOUR, T0, "one-off"),
        ({"schedule": "* * * * *"}, T0, T0 - HOUR, "later than its start"),
        ({"schedule": "0 0 1 1 *"}, T0 - HOUR, T0, "no instant"),
        ({"schedule": "* * * * * *"}, T0 - 48 * HOUR, T0, "at most 100000"),
        ({"schedule": "* * * * *"}, T0 - HOUR, T0 + HOUR, "ends in the past"),
    ],
)
def test_a_range_that_cannot_be_is_refused(lab: Lab, fields: dict[str, str], begin: int, end: int, said: str) -> None:
    stored = lab.create(task(**fields), at(T0 + HOUR))
    with pytest.raises(TaskError, match=said):
        lab.transport.run(backfills.start(lab.space, stored, begin, end, 1))
    assert _state(lab) is None


def test_a_backfill_that_arrives_much_later_or_for_another_task_is_refused(lab: Lab) -> None:
    stored = lab.create(task(schedule="* * * * *"), at(T0 + HOUR))
    plan = at(T0 - 1)
    assert lab.send(calls.backfill(lab.partition, lab.op(T0 - HOUR), stored, "b", 1, 1, plan)) == "expired"
    edited = lab.edit(stored, queue="new")
    assert lab.send(calls.backfill(lab.partition, lab.op(), stored, "b", 1, 1, plan)) == "moved"
    lab.send(calls.delete(lab.partition, lab.op(), edited))
    assert lab.send(calls.backfill(lab.partition, lab.op(), edited, "b", 1, 1, plan)) == "gone"
    assert lab.send(calls.unbackfill(lab.partition, "a", "b")) == "gone"
