"""Ending attempts and giving them back: only the holder is heard, and only its own generation is touched."""

from dataclasses import replace

import pytest
from lab import MINUTE, T0, Lab, at, task

from sisy_redis import calls, operations
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, Outcome, Overlap


def test_a_stale_token_cannot_end_a_run(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    before = lab.dump()
    wrong = Settlement(attempt.run_id, attempt.token + 1, "ok", attempt.queue)
    assert lab.send(calls.settle(lab.partition, hand.boot, "x", [wrong])) == ["stale"]
    assert lab.dump() == before


def test_another_boot_cannot_end_a_run(lab: Lab) -> None:
    lab.create()
    hand, other = lab.worker(), lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    assert not other.settle(attempt)
    assert hand.settle(attempt)


def test_the_worker_that_lost_a_run_cannot_end_it(lab: Lab) -> None:
    lab.create()
    hand, other = lab.worker(), lab.worker()
    lab.now += MINUTE
    stale = hand.one()
    hand.reaped()
    fresh = other.one()
    before = lab.dump()
    assert not hand.settle(stale)
    assert lab.dump() == before
    assert other.settle(fresh)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED])
def test_a_run_ends_once_with_its_outcome(lab: Lab, outcome: Outcome) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    assert hand.settle(hand.one(), outcome)
    state = lab.state()
    assert state and state.last and (state.last.outcome, state.open_runs) == (outcome, 0)
    assert lab.ledger() == [("run", "a", outcome, 1)]


def test_the_same_settlement_twice_in_one_call_counts_once(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    end = Settlement(attempt.run_id, attempt.token, "ok", attempt.queue)
    assert lab.once(calls.settle(lab.partition, hand.boot, "x", [end, end])) == ["settled", "stale"]
    assert lab.ledger() == [("run", "a", "ok", 1)]


def test_settling_nothing_is_no_error(lab: Lab) -> None:
    assert lab.send(calls.settle(lab.partition, "7", "x", [])) == []


def test_an_error_is_kept_with_its_attempt(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "failed", text="ValueError: no\n  tab\there")
    (fields,) = [fields for _, fields in lab.dump()["reports"]]
    assert fields[b"error"].decode() == "ValueError: no\n  tab\there"
    assert lab.ledger() == [("run", "a", "failed", 1)]


def test_a_retry_waits_for_its_delay_and_is_the_next_attempt(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    hand.settle(first, "retry", delay_ms=5000, text="boom")
    lab.now += 4999
    answer = hand.claimed()
    assert (answer.attempts, answer.next_due_ms) == ((), 1)
    lab.now += 1
    second = hand.one()
    assert (second.run_id, second.number, second.losses) == (first.run_id, 2, 0)
    assert second.token > first.token
    assert lab.ledger() == [("run", "a", "retry", 1)]


def test_a_release_counts_no_attempt_and_needs_a_new_token(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    hand.settle(first, "release")
    assert lab.ledger() == []
    second = hand.one()
    assert second.number == 1
    assert second.token > first.token
    assert not hand.settle(first)


def test_starting_needs_the_token(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    assert lab.send(calls.start(lab.partition, hand.boot, attempt.run_id, attempt.token)) is True
    assert lab.send(calls.start(lab.partition, hand.boot, attempt.run_id, attempt.token + 1)) is False


def _orphan(lab: Lab) -> tuple[Attempt, calls.Call[list[bool]]]:
    """A run whose task was deleted and created again with the same id, and the call that ends it."""
    old = lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    assert lab.send(calls.delete(lab.partition, lab.op(), old)) == "deleted"
    lab.create(task(iterations=5))
    return attempt, calls.settle(
        lab.partition, hand.boot, "x", [Settlement(attempt.run_id, attempt.token, "ok", attempt.queue)]
    )


def _columns(lab: Lab) -> dict[str, object]:
    kinds = ("tasks", "plan", "open", "remaining", "last", "labels", "due:default", "waiting", "unroutable")
    return {kind: rows for kind, rows in lab.dump().items() if kind in kinds}


def test_a_run_of_an_older_generation_touches_nothing_of_the_newer(lab: Lab) -> None:
    attempt, settle = _orphan(lab)
    before = _columns(lab)
    assert lab.send(settle) == ["settled"]
    assert _columns(lab) == before
    state = lab.state()
    assert state and (state.open_runs, state.iterations_left, state.last) == (0, 5, None)
    assert lab.ledger()[-1] == ("run", "a", "cancelled", 1)
    assert attempt.stored.generation < state.stored.generation


@pytest.mark.parametrize("action", ["retry", "release", "unroutable"])
def test_a_run_of_an_older_generation_is_not_given_back(lab: Lab, action: str) -> None:
    attempt, settle = _orphan(lab)
    before = _columns(lab)
    back = Settlement(attempt.run_id, attempt.token, action, attempt.queue, text="app.tasks.work gone")
    boot = settle.keys[0].rpartition(":")[2]
    assert lab.send(calls.settle(lab.partition, boot, "x", [back])) == ["settled"]
    assert _columns(lab) == before


def test_a_dead_workers_run_of_a_deleted_task_is_cancelled(lab: Lab) -> None:
    old = lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.one()
    lab.send(calls.delete(lab.partition, lab.op(), old))
    assert hand.reaped() == ("reaped", 1, 0)
    assert lab.ledger()[-1] == ("run", "a", "cancelled", 1)
    assert set(lab.dump()) == {"meta", "history", "replies", "reply_times"}


def test_a_waiting_run_of_a_deleted_task_is_cancelled_when_its_time_comes(lab: Lab) -> None:
    old = lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "retry")
    lab.send(calls.delete(lab.partition, lab.op(), old))
    lab.create(task(), at(T0 + 10 * MINUTE))
    lab.now += 1
    assert hand.claim() == ()
    assert lab.column("waiting") == {}
    assert ("run", "a", "cancelled", 0) in lab.ledger()


@pytest.mark.parametrize("action", ["retry", "release", "unroutable"])
def test_a_run_that_is_given_back_waits_in_the_queue_its_task_was_moved_to(lab: Lab, action: str) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP), at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.edit(stored, queue="new")
    back = Settlement(attempt.run_id, attempt.token, action, "default", text="app.tasks.work no such module")
    assert lab.send(calls.settle(lab.partition, hand.boot, "x", [back])) == ["elsewhere new"]
    moved = replace(back, queue="new")
    assert lab.both(calls.settle(lab.partition, hand.boot, "x", [moved])) == (["settled"], ["stale"])
    lab.now += 1000
    assert [a.run_id for a in lab.worker("new").claim()] == [attempt.run_id]


def test_a_waiting_run_is_taken_along_to_the_queue_of_its_task(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP), at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    hand.settle(attempt, "retry", delay_ms=5000)
    (moved,) = lab.transport.run(
        operations.save_all(lab.space, [replace(stored.definition, queue="new", end_ms=T0 * 2)])
    )
    lab.now += 5000
    other = lab.worker("new")
    assert hand.claim() == ()
    assert [(a.run_id, a.queue) for a in other.claim()] == [(attempt.run_id, "new")]
    assert lab.send(calls.move(lab.partition, attempt.run_id, "default", "new")) == "gone"
    assert moved.definition.queue == "new"
