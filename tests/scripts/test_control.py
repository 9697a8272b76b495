"""Deleting, pausing, resuming and triggering."""

import pytest
from lab import HOUR, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, operations
from sisy_redis.definitions import Overlap, Plan, Stored
from sisy_redis.errors import DoesNotExist, TaskBusy


def test_a_deleted_task_leaves_no_key_behind(lab: Lab) -> None:
    stored = lab.create(task(iterations=3, label="daily"))
    lab.send(calls.pause(lab.partition, lab.op(), stored, "me", "why"))
    assert lab.send(calls.delete(lab.partition, lab.op(), stored)) == "deleted"
    assert set(lab.dump()) == {"meta", "history", "replies", "reply_times"}
    assert lab.ledger() == [("ended", "a", "deleted")]


def test_a_repeated_deletion_does_not_delete_a_later_task(lab: Lab) -> None:
    stored = lab.create()
    call = calls.delete(lab.partition, lab.op(), stored)
    assert lab.both(call) == ("deleted", "deleted")
    lab.create()
    assert lab.send(call) == "deleted"
    assert lab.send(calls.delete(lab.partition, lab.op(), stored)) == "gone"
    assert lab.state() is not None


def test_a_deletion_made_long_ago_is_refused(lab: Lab) -> None:
    stored = lab.create()
    assert lab.send(calls.delete(lab.partition, lab.op(T0 - 600_001), stored)) == "expired"


def test_a_task_that_moved_to_another_queue_is_found_there(lab: Lab) -> None:
    stored = lab.create()
    moved = lab.edit(stored, queue="mail")
    assert lab.send(calls.delete(lab.partition, lab.op(), stored)) == "moved"
    assert lab.send(calls.pause(lab.partition, lab.op(), stored, "", "")) == "moved"
    assert lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=False)) == ("moved", "")
    lab.transport.run(operations.pause(lab.space, stored))
    assert lab.due("mail") == {"a": float("inf")}
    assert lab.send(calls.resume(lab.partition, lab.op(), stored)) == "moved"
    lab.transport.run(operations.resume(lab.space, stored))
    assert lab.due("mail") == {"a": T0 + MINUTE}
    lab.transport.run(operations.trigger(lab.space, stored))
    assert [attempt.queue for attempt in lab.worker("mail").claim()] == ["mail"]
    assert lab.transport.run(operations.delete(lab.space, stored)) is True
    assert moved.generation == stored.generation


def test_a_paused_task_does_not_run_and_says_who_paused_it(lab: Lab) -> None:
    stored = lab.create()
    hand = lab.worker()
    assert lab.send(calls.pause(lab.partition, lab.op(), stored, "ann", "too much\tnoise")) == "paused"
    lab.now += 5 * MINUTE
    assert hand.claim() == ()
    state = lab.state()
    assert (
        state
        and state.pause
        and (state.pause.since_ms, state.pause.by, state.pause.reason) == (T0, "ann", "too much\tnoise")
    )
    assert state.next_ms is None


def test_pausing_again_keeps_the_first_reason(lab: Lab) -> None:
    stored = lab.create()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "ann", "one"))
    lab.send(calls.pause(lab.partition, lab.op(), stored, "bob", "two"))
    state = lab.state()
    assert state and state.pause and state.pause.by == "ann"


def test_a_resumed_task_goes_on_after_now_and_the_rest_is_recorded(lab: Lab) -> None:
    stored = lab.create()
    hand = lab.worker()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.now += 5 * MINUTE
    assert lab.send(calls.resume(lab.partition, lab.op(), stored)) == "resumed"
    assert hand.claim() == ()
    assert lab.ledger() == [("skip", "a", "paused", 5, T0 + MINUTE, T0 + 5 * MINUTE)]
    lab.now += MINUTE
    assert hand.one().nominal_ms == T0 + 6 * MINUTE


def test_resuming_a_task_that_is_not_paused_changes_nothing(lab: Lab) -> None:
    stored = lab.create()
    before = lab.due(), lab.column("plan")
    assert lab.send(calls.resume(lab.partition, lab.op(), stored)) == "resumed"
    assert (lab.due(), lab.column("plan")) == before
    assert lab.ledger() == []


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_a_late_copy_of_a_pause_or_resume_undoes_nothing(lab: Lab, name: str) -> None:
    stored = lab.create()
    pause = calls.pause(lab.partition, lab.op(), stored, "", "")
    resume = calls.resume(lab.partition, lab.op(), stored)
    for call in (pause, resume):
        lab.send(call)
    if name == "pause":
        assert lab.once(pause) == "paused"
        assert lab.due() == {"a": T0 + MINUTE}
        return
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    assert lab.once(resume) == "resumed"
    assert lab.due() == {"a": float("inf")}


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_a_pause_or_resume_that_arrives_much_later_is_refused(lab: Lab, name: str) -> None:
    stored = lab.create()
    op = lab.op(T0 - 11 * MINUTE)
    call = (
        calls.pause(lab.partition, op, stored, "", "") if name == "pause" else calls.resume(lab.partition, op, stored)
    )
    assert lab.send(call) == "expired"
    assert lab.due() == {"a": T0 + MINUTE}


@pytest.mark.parametrize("hold", ["pause", "disable"])
def test_a_held_task_ends_at_its_end(lab: Lab, hold: str) -> None:
    stored = lab.create(task(end_ms=T0 + HOUR), every(count=59, complete=True))
    hand = lab.worker()
    if hold == "pause":
        lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    else:
        lab.edit(stored, every(count=59, complete=True), enabled=False)
    assert lab.due() == {"a": T0 + HOUR}
    lab.now += HOUR - 1
    assert hand.claim() == ()
    lab.now += 1
    assert hand.claim() == ()
    reason = "paused" if hold == "pause" else "disabled"
    assert lab.ledger() == [("skip", "a", reason, 59, T0 + MINUTE, T0 + 59 * MINUTE), ("ended", "a", "end")]
    assert lab.state() is None


@pytest.mark.parametrize("hold", ["pause", "disable"])
def test_a_held_one_off_is_due_when_it_is_let_go(lab: Lab, hold: str) -> None:
    stored = lab.create(task(schedule="@once"), at(), beside="now")
    hand = lab.worker()
    if hold == "pause":
        lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    else:
        stored = lab.edit(stored, at(), beside="keep", enabled=False)
    lab.now += 3 * HOUR
    assert hand.claim() == ()
    if hold == "pause":
        lab.send(calls.resume(lab.partition, lab.op(), stored))
    else:
        lab.edit(stored, at(), beside="keep", enabled=True)
    assert [attempt.nominal_ms for attempt in hand.claim()] == [T0]
    assert lab.ledger() == []


def test_a_resumed_task_that_is_disabled_stays_so_whatever_the_caller_believed(lab: Lab) -> None:
    stored = lab.create()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.edit(stored, every(), enabled=False)
    assert lab.send(calls.resume(lab.partition, lab.op(), stored)) == "resumed"
    assert lab.due() == {"a": float("inf")}


def test_a_paused_task_that_is_edited_stays_paused(lab: Lab) -> None:
    stored = lab.create()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.now += 2 * MINUTE
    lab.edit(stored, every(HOUR, T0 + HOUR), schedule="0 * * * *")
    assert lab.due() == {"a": float("inf")}
    assert lab.ledger() == [("skip", "a", "paused", 2, T0 + MINUTE, T0 + 2 * MINUTE)]


def test_a_paused_task_is_removed_when_nothing_is_left_to_resume(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + MINUTE, T0 + 2 * MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.now += HOUR
    lab.send(calls.resume(lab.partition, lab.op(), stored))
    hand.settle(attempt)
    assert hand.claim() == ()
    assert lab.state() is None


def test_pausing_between_resume_and_claim_keeps_no_ended_task(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + MINUTE))
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.now += HOUR
    lab.send(calls.resume(lab.partition, lab.op(), stored))
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    assert lab.worker().claim() == ()
    assert lab.state() is None
    assert lab.due() == {}


@pytest.mark.parametrize("name", ["pause", "resume", "trigger"])
def test_what_is_gone_cannot_be_controlled(lab: Lab, name: str) -> None:
    stored = lab.create()
    lab.transport.run(operations.delete(lab.space, stored))
    lab.create()
    with pytest.raises(DoesNotExist, match="'a'"):
        lab.transport.run(getattr(operations, name)(lab.space, stored))


def test_a_triggered_run_is_admitted_beside_the_schedule(lab: Lab) -> None:
    stored = lab.create()
    hand = lab.worker()
    first, second = lab.both(calls.trigger(lab.partition, lab.op(), stored, counts=False))
    assert first == second and first[0] == "triggered"
    attempt = hand.one()
    assert (attempt.run_id, attempt.nominal_ms) == (first[1], T0)
    hand.settle(attempt)
    assert lab.due() == {"a": T0 + MINUTE}
    assert lab.ledger() == [("run", "a", "ok", 1)]


def test_a_paused_or_disabled_task_can_be_triggered(lab: Lab) -> None:
    stored = lab.create(task(enabled=False))
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.transport.run(operations.trigger(lab.space, stored))
    assert len(lab.worker().claim()) == 1


def test_a_task_without_overlap_that_is_busy_is_not_triggered(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP))
    lab.transport.run(operations.trigger(lab.space, stored))
    assert lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=False)) == ("busy", "")
    with pytest.raises(TaskBusy):
        lab.transport.run(operations.trigger(lab.space, stored))


def test_a_triggered_run_is_an_open_run_for_the_schedule(lab: Lab) -> None:
    stored = lab.create(task(overlap=Overlap.SKIP))
    lab.transport.run(operations.trigger(lab.space, stored))
    hand = lab.worker()
    hand.one()
    lab.now += MINUTE
    assert hand.claim() == ()
    assert lab.ledger() == [("skip", "a", "overlap", 1, T0 + MINUTE, T0 + MINUTE)]


def test_a_triggered_run_costs_an_iteration_only_where_it_counts(lab: Lab) -> None:
    stored = lab.create(task(iterations=2))
    lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=False))
    lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=True))
    state = lab.state()
    assert state and (state.iterations_left, state.open_runs) == (1, 2)


def test_the_last_iteration_by_trigger_ends_the_task(lab: Lab) -> None:
    stored = lab.create(task(iterations=1))
    lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=True))
    assert lab.send(calls.trigger(lab.partition, lab.op(), stored, counts=True)) == ("spent", "")
    hand = lab.worker()
    hand.settle(hand.one())
    assert lab.state() is None
    assert lab.due() == {}


def test_a_trigger_made_long_ago_is_refused(lab: Lab) -> None:
    stored = lab.create()
    assert lab.send(calls.trigger(lab.partition, lab.op(T0 - 600_001), stored, counts=False)) == ("expired", "")


def test_a_trigger_of_a_later_generation_is_gone(lab: Lab) -> None:
    stored = lab.create()
    wrong = Stored(stored.definition, stored.generation + 1, stored.version)
    assert lab.send(calls.trigger(lab.partition, lab.op(), wrong, counts=False)) == ("gone", "")


def test_a_task_saved_with_nothing_left_while_paused_ends(lab: Lab) -> None:
    stored = lab.create()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "", ""))
    lab.edit(stored, Plan((), True), end_ms=T0 + 1)
    assert lab.state() is None


def test_a_one_off_that_is_held_until_its_end_has_its_reason_in_the_ledger(lab: Lab) -> None:
    stored = lab.create(task(schedule="@once", end_ms=T0 + HOUR), at(), beside="now")
    lab.send(calls.pause(lab.partition, lab.op(), stored, "me", "why"))
    lab.now += HOUR
    assert lab.worker().claim() == ()
    assert lab.ledger() == [("skip", "a", "paused", 1, T0, T0), ("ended", "a", "end")]
