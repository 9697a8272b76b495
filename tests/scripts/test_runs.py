"""Cancelling, progress, dead runs, skipped occurrences and maintenance."""

import pytest
from lab import HOUR, MINUTE, T0, Hand, Lab, at, task

from sisy_redis import calls, inspection, runs
from sisy_redis.definitions import Attempt, Overlap, Stored
from sisy_redis.errors import DoesNotExist, TaskBusy


def _one(lab: Lab, **fields: object) -> tuple[Stored, Hand, Attempt]:
    stored = lab.create(task(**fields))
    hand = lab.worker()
    lab.now += MINUTE
    return stored, hand, hand.one()


def _cancel(lab: Lab, run_id: str) -> tuple[str, str]:
    first, second = lab.both(calls.cancel(lab.partition, lab.op(), run_id, "default", "me", "why"))
    assert first == second
    return first


def _open(lab: Lab) -> list[inspection.OpenRun]:
    return lab.transport.run(inspection.open_runs(lab.space, "a"))


def _dead(lab: Lab) -> list[str]:
    return [run.run_id for run in lab.transport.run(inspection.dead_runs(lab.space))]


# --- cancelling ---


def test_a_live_run_is_asked_to_end_and_its_worker_hears_of_it(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    assert _cancel(lab, attempt.run_id) == ("requested", "")
    assert hand.renew().cancels == (attempt.run_id,)
    assert lab.worker().renew().cancels == ()
    (run,) = _open(lab)
    assert run.is_cancelled and run.worker == "host:1"
    hand.settle(attempt, "cancelled")
    assert lab.column("cancels") == {} and _open(lab) == []


def test_a_waiting_run_ends_at_once(lab: Lab) -> None:
    _, hand, attempt = _one(lab, overlap=Overlap.SKIP)
    hand.settle(attempt, "retry", delay_ms=HOUR)
    assert _cancel(lab, attempt.run_id) == ("cancelled", "")
    assert lab.ledger()[-1] == ("run", "a", "cancelled", 2)
    assert lab.column("waiting") == {} and lab.column("open") == {}


def test_a_run_that_has_ended_cannot_be_cancelled(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    hand.settle(attempt)
    for run_id in (attempt.run_id, "nobody:1:2", "nonsense"):
        assert _cancel(lab, run_id) == ("gone", "")
    assert lab.column("cancels") == {}


def test_a_run_in_another_queue_is_cancelled_there(lab: Lab) -> None:
    lab.create(task(queue="mail"))
    hand = lab.worker("mail")
    lab.now += MINUTE
    attempt = hand.one()
    assert _cancel(lab, attempt.run_id) == ("elsewhere", "mail")
    hand.settle(attempt, "retry", delay_ms=HOUR)
    assert lab.transport.run(runs.cancel(lab.space, attempt.run_id)) == "cancelled"


def test_a_cancel_that_arrives_much_later_is_refused(lab: Lab) -> None:
    _, _, attempt = _one(lab)
    call = calls.cancel(lab.partition, lab.op(T0 - HOUR), attempt.run_id, "default", "", "")
    assert lab.send(call) == ("expired", "")


def test_a_cancelled_run_that_is_redelivered_is_still_to_end(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    _cancel(lab, attempt.run_id)
    lab.now += MINUTE
    hand.reaped()
    answer = lab.worker().claimed()
    assert attempt.run_id in answer.cancels


# --- progress ---


def test_only_the_holder_of_a_run_notes_its_progress(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    note = calls.note_progress
    assert lab.send(note(lab.partition, hand.boot, attempt.run_id, attempt.token, "half way")) is True
    assert lab.send(note(lab.partition, hand.boot, attempt.run_id, attempt.token + 1, "wrong")) is False
    assert [run.progress for run in _open(lab)] == ["half way"]
    hand.settle(attempt)
    assert lab.send(note(lab.partition, hand.boot, attempt.run_id, attempt.token, "late")) is False
    assert lab.column("progress") == {}


def test_a_dead_workers_progress_goes_with_it(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    lab.send(calls.note_progress(lab.partition, hand.boot, attempt.run_id, attempt.token, "half way"))
    lab.now += MINUTE
    hand.reaped()
    assert lab.column("progress") == {}


# --- dead runs ---


def test_a_dead_run_is_kept_with_its_task_and_can_be_tried_again(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    hand.settle(attempt, "failed", is_dead=True, text="no")
    assert _dead(lab) == [attempt.run_id]
    assert lab.transport.run(runs.requeue(lab.space, attempt.run_id)) == attempt.run_id
    again = hand.one()
    assert (again.run_id, again.number) == (attempt.run_id, 2)
    assert _dead(lab) == [] and lab.column("open")["a"].startswith("1 ")


def test_a_dead_run_of_a_task_that_is_gone_is_tried_as_a_one_off_of_its_own(lab: Lab) -> None:
    lab.create(task(schedule="@once", userdata={"n": 1}), at(), beside="now")
    hand = lab.worker()
    attempt = hand.one()
    hand.settle(attempt, "failed", is_dead=True)
    assert lab.state() is None
    revived = lab.transport.run(runs.requeue(lab.space, attempt.run_id))
    again = hand.one()
    assert again.run_id == revived and again.stored.definition.userdata == {"n": 1}
    assert _dead(lab) == []


def test_requeueing_keeps_to_overlap_and_knows_only_dead_runs(lab: Lab) -> None:
    _, hand, attempt = _one(lab, overlap=Overlap.SKIP)
    with pytest.raises(DoesNotExist):
        lab.transport.run(runs.requeue(lab.space, attempt.run_id))
    hand.settle(attempt, "failed", is_dead=True)
    lab.now += MINUTE
    hand.one()
    with pytest.raises(TaskBusy):
        lab.transport.run(runs.requeue(lab.space, attempt.run_id))
    assert _dead(lab) == [attempt.run_id]


def test_dead_runs_can_be_forgotten(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    hand.settle(attempt, "failed", is_dead=True)
    assert lab.transport.run(runs.bury(lab.space, [attempt.run_id, "nobody:1:2"])) == 1
    assert _dead(lab) == [] and "dead_times" not in lab.dump()


def test_a_lost_run_is_dead(lab: Lab) -> None:
    _, hand, attempt = _one(lab, max_redeliveries=0)
    lab.now += MINUTE
    hand.reaped()
    assert _dead(lab) == [attempt.run_id]


def test_dead_runs_are_kept_for_thirty_days(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    hand.settle(attempt, "failed", is_dead=True)
    lab.now += 31 * 24 * HOUR
    lab.create(task("b"), at(lab.now + 1))
    other = lab.worker()
    lab.now += 1
    (newer,) = [a for a in other.claim() if a.run_id.startswith("b:")]
    other.settle(newer, "failed", is_dead=True)
    assert _dead(lab) == [newer.run_id]


# --- skipping and maintenance ---


def test_the_next_occurrences_are_skipped_as_asked(lab: Lab) -> None:
    stored = lab.create(task(iterations=5))
    hand = lab.worker()
    assert lab.send(calls.skip(lab.partition, lab.op(), stored, 2)) == "skipping"
    admitted = []
    for _ in range(3):
        lab.now += MINUTE
        admitted += [(a.nominal_ms - T0) // MINUTE for a in hand.claim()]
    assert admitted == [3] and lab.column("skips") == {}
    skipped = [(line[2], (line[4] - T0) // MINUTE) for line in lab.ledger()]
    assert skipped == [("skipped", 1), ("skipped", 2)]
    assert lab.column("remaining") == {"a": "4"}


def test_skipping_can_be_taken_back_and_means_its_task(lab: Lab) -> None:
    stored = lab.create()
    lab.send(calls.skip(lab.partition, lab.op(), stored, 3))
    assert lab.send(calls.skip(lab.partition, lab.op(), stored, 0)) == "skipping"
    assert lab.column("skips") == {}
    assert lab.send(calls.skip(lab.partition, lab.op(T0 - HOUR), stored, 1)) == "expired"
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    assert lab.send(calls.skip(lab.partition, lab.op(), stored, 1)) == "gone"


def test_nothing_is_admitted_during_maintenance_and_the_misfire_policy_decides_afterwards(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    begin, end = T0 + 2 * MINUTE, T0 + 10 * MINUTE
    assert lab.send(calls.maintain(lab.partition, lab.op(), begin, end, "ops", "upgrade")) == "ok"
    lab.now += MINUTE
    assert len(hand.claim()) == 1
    lab.now = end - 1
    answer = hand.claimed()
    assert (answer.attempts, answer.next_due_ms, answer.has_backlog) == ((), 1, False)
    lab.now = end
    assert [(a.nominal_ms - T0) // MINUTE for a in hand.claim()] == [9]
    assert lab.ledger()[-1] == ("skip", "a", "coalesced", 7, T0 + 2 * MINUTE, T0 + 8 * MINUTE)


def test_maintenance_can_be_ended_early(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.send(calls.maintain(lab.partition, lab.op(), T0, T0 + HOUR, "ops", ""))
    lab.now += MINUTE
    assert hand.claim() == ()
    assert lab.send(calls.maintain(lab.partition, lab.op(), lab.now, 0, "", "")) == "ok"
    assert len(hand.claim()) == 1
    assert lab.send(calls.maintain(lab.partition, lab.op(T0 - HOUR), T0, T0 + HOUR, "", "")) == "expired"


def test_purging_forgets_what_is_older_and_keeps_the_rest(lab: Lab) -> None:
    _, hand, attempt = _one(lab)
    hand.settle(attempt, "failed", is_dead=True, text="no")
    written = int(lab.client.xrevrange(lab.partition.key("history"), count=1)[0][0].split(b"-")[0])
    assert lab.once(calls.purge(lab.partition, min(written, lab.now) - 1)) == (0, 0, False)
    assert lab.once(calls.purge(lab.partition, max(written, lab.now) + 1)) == (2, 1, False)
    assert _dead(lab) == [] and lab.ledger() == []
