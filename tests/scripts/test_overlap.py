"""What becomes of an occurrence while its task has as many open runs as it may."""

from dataclasses import replace

import pytest
from lab import HOUR, MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis import calls
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, Keep, Overlap


def _minutes(attempts: tuple[Attempt, ...]) -> list[int]:
    return [(attempt.nominal_ms - T0) // MINUTE for attempt in attempts]


def _running(lab: Lab, **policy: object) -> tuple[Hand, Attempt]:
    """A task every minute whose first run is open."""
    lab.create(task(**policy))
    hand = lab.worker()
    lab.now += MINUTE
    return hand, hand.one()


def _pass(lab: Lab, hand: Hand, minutes: int) -> list[int]:
    """What is admitted while so many minutes pass."""
    admitted: list[int] = []
    for _ in range(minutes):
        lab.now += MINUTE
        admitted += _minutes(hand.claim())
    return admitted


def _skipped(lab: Lab) -> list[tuple[str, int]]:
    return [(line[2], (line[4] - T0) // MINUTE) for line in lab.ledger() if line[0] == "skip"]


@pytest.mark.parametrize(("keep", "kept", "gone"), [(Keep.FIRST, 2, [3, 4]), (Keep.LATEST, 4, [2, 3])])
def test_buffer_one_holds_the_first_or_the_latest_back(lab: Lab, keep: Keep, kept: int, gone: list[int]) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ONE, keep=keep)
    assert _pass(lab, hand, 3) == []
    assert _skipped(lab) == [("overlap", minute) for minute in gone]
    hand.settle(first)
    assert _minutes(hand.claim()) == [kept]
    assert lab.column("held") == {}


def test_buffer_all_holds_every_one_back_up_to_its_bound_and_releases_them_in_order(lab: Lab) -> None:
    hand, attempt = _running(lab, overlap=Overlap.BUFFER_ALL, buffer_limit=3)
    assert _pass(lab, hand, 5) == []
    assert _skipped(lab) == [("limit", 5), ("limit", 6)]
    for minute in (2, 3, 4):
        hand.settle(attempt)
        attempt = hand.one()
        assert _minutes((attempt,)) == [minute]
    hand.settle(attempt)
    assert hand.claim() == ()


def test_a_held_back_occurrence_is_no_run_and_costs_its_iteration_when_it_is_released(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ALL, iterations=3)
    _pass(lab, hand, 4)
    assert lab.column("remaining") == {"a": "2"} and lab.column("open")["a"].startswith("1 ")
    hand.settle(first)
    assert lab.column("remaining") == {"a": "1"}
    second = hand.one()
    hand.settle(second)
    third = hand.one()
    assert third.previous_ms == second.nominal_ms
    assert _skipped(lab) == [("limit", 4)]
    hand.settle(third)
    assert lab.state() is None and lab.ledger()[-1] == ("ended", "a", "iterations")


def test_max_running_is_how_many_runs_may_be_open(lab: Lab) -> None:
    hand, _ = _running(lab, overlap=Overlap.SKIP, max_running=3)
    assert _pass(lab, hand, 4) == [2, 3]
    assert _skipped(lab) == [("overlap", 4), ("overlap", 5)]


def test_a_waiting_retry_counts_as_an_open_run(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ONE)
    hand.settle(first, "retry", delay_ms=HOUR)
    assert _pass(lab, hand, 2) == []
    assert lab.column("held") == {"a": str(T0 + 2 * MINUTE)}


def test_what_is_held_back_is_released_when_its_run_is_lost(lab: Lab) -> None:
    hand, _ = _running(lab, overlap=Overlap.BUFFER_ONE, max_redeliveries=0)
    _pass(lab, hand, 1)
    lab.now += MINUTE
    assert hand.reaped() == ("reaped", 1, 0)
    assert _minutes(lab.worker().claim())[:1] == [2]


@pytest.mark.parametrize("hold", ["pause", "disable"])
def test_a_held_task_releases_nothing_until_it_is_let_go(lab: Lab, hold: str) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ONE)
    _pass(lab, hand, 1)
    state = lab.state()
    assert state
    stored = state.stored
    if hold == "pause":
        lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    else:
        stored = lab.edit(stored, every(first=lab.now + HOUR), enabled=False)
    hand.settle(first)
    assert hand.claim() == () and lab.column("open") == {}
    if hold == "pause":
        lab.send(calls.resume(lab.partition, lab.op(), stored))
    else:
        lab.edit(stored, every(first=lab.now + HOUR), enabled=True)
    assert _minutes(hand.claim()) == [2]


def test_an_edit_that_makes_room_releases_what_was_held_back(lab: Lab) -> None:
    hand, _ = _running(lab, overlap=Overlap.BUFFER_ALL)
    _pass(lab, hand, 3)
    state = lab.state()
    assert state
    lab.edit(state.stored, max_running=3)
    assert _minutes(hand.claim()) == [2, 3]


def test_a_task_that_has_ended_stays_until_what_it_held_back_has_run(lab: Lab) -> None:
    lab.create(task(overlap=Overlap.BUFFER_ONE), every(count=2, complete=True))
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    lab.now += MINUTE
    assert hand.claim() == ()
    hand.settle(first)
    second = hand.one()
    hand.settle(second)
    assert lab.state() is None


def test_a_deleted_task_takes_what_it_held_back_with_it(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ONE)
    _pass(lab, hand, 1)
    state = lab.state()
    assert state
    lab.send(calls.delete(lab.partition, lab.op(), state.stored))
    lab.create()
    hand.settle(first)
    assert lab.column("held") == {} and lab.column("open") == {} and hand.claim() == ()


def test_what_is_held_back_waits_in_the_queue_its_task_was_moved_to(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.BUFFER_ONE)
    _pass(lab, hand, 1)
    state = lab.state()
    assert state
    lab.edit(state.stored, queue="new")
    end = Settlement(first.run_id, first.token, "ok", "default")
    assert lab.send(calls.settle(lab.partition, hand.boot, "x", [end])) == ["elsewhere new"]
    assert lab.send(calls.settle(lab.partition, hand.boot, "x", [replace(end, queue="new")])) == ["settled"]
    assert _minutes(lab.worker("new").claim()) == [2]


def test_cancel_other_asks_for_the_end_of_the_open_run_and_then_runs_the_latest(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.CANCEL_OTHER)
    listener = lab.client.pubsub()
    listener.subscribe(lab.partition.cancel_channel)
    listener.get_message(timeout=5)
    lab.now += MINUTE
    answer = hand.claimed()
    assert (answer.attempts, answer.cancels) == ((), (first.run_id,))
    assert hand.renew().cancels == (first.run_id,)
    message = listener.get_message(timeout=5)
    assert message and message["data"].decode() == first.run_id
    listener.close()
    lab.now += MINUTE
    assert hand.claimed().attempts == ()
    hand.settle(first, "cancelled")
    assert _minutes(hand.claim()) == [3]
    assert lab.column("cancels") == {} and _skipped(lab) == [("overlap", 2)]


def test_cancel_other_ends_a_run_that_waits_for_its_retry_at_once(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.CANCEL_OTHER)
    hand.settle(first, "retry", delay_ms=HOUR)
    assert _pass(lab, hand, 1) == [2]
    assert ("run", "a", "cancelled", 2) in lab.ledger()
    assert lab.column("waiting") == {} and lab.column("open")["a"] == f"1 {T0 + 2 * MINUTE}"


def test_cancel_other_does_not_count_a_run_twice_that_is_due_again_in_the_same_call(lab: Lab) -> None:
    hand, first = _running(lab, overlap=Overlap.CANCEL_OTHER)
    hand.settle(first, "retry", delay_ms=MINUTE)
    lab.now += MINUTE
    assert len(hand.claim()) == 1
    assert lab.column("quarantine") == {}


def test_triggering_keeps_to_max_running(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.BUFFER_ONE, max_running=2), at(T0 + HOUR))
    for status in ("triggered", "triggered", "busy"):
        assert lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=False))[0] == status


def test_a_task_is_paused_after_so_many_failed_runs_in_a_row(lab: Lab) -> None:
    lab.create(task(pause_after=3))
    hand = lab.worker()
    for action in ("failed", "failed", "ok", "failed", "timeout", "failed"):
        lab.now += MINUTE
        hand.settle(hand.one(), action)
    lab.now += MINUTE
    assert hand.claim() == ()
    state = lab.state()
    assert state and state.pause and (state.pause.by, state.pause.reason) == ("sisy", "3 failed runs in a row")
    assert lab.due() == {"a": float("inf")}
    lab.send(calls.resume(lab.partition, lab.op(), state.stored))
    assert lab.column("streak") == {}
    lab.now += MINUTE
    hand.settle(hand.one(), "failed")
    lab.now += MINUTE
    assert len(hand.claim()) == 1


def test_a_pause_ends_by_itself(lab: Lab) -> None:
    stored = lab.create()
    hand = lab.worker()
    until = T0 + 10 * MINUTE + 30_000
    lab.send(calls.pause(lab.partition, lab.op(), stored, "me", "deploy", until))
    assert lab.due() == {"a": until}
    lab.now = until - 1
    assert hand.claim() == ()
    lab.now = until
    assert hand.claim() == ()
    assert lab.column("paused") == {} and lab.due() == {"a": T0 + 11 * MINUTE}
    assert lab.ledger() == [("skip", "a", "paused", 10, T0 + MINUTE, T0 + 10 * MINUTE)]
