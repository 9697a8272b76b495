"""What is said of why a task runs, or does not, and of what became of its occurrences."""

from lab import HOUR, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, inspection
from sisy_redis.definitions import Overlap
from sisy_redis.explain import Explanation, explain_now, explain_occurrence


def _now(lab: Lab) -> Explanation:
    return explain_now("a", lab.transport.run(inspection.gather(lab.space, "a")))


def _of(lab: Lab, at_ms: int) -> Explanation:
    return explain_occurrence("a", at_ms, lab.transport.run(inspection.gather(lab.space, "a")))


def test_a_task_that_is_just_not_due_says_when_it_is(lab: Lab) -> None:
    lab.create()
    lab.worker()
    assert _now(lab) == Explanation("a", "waiting", ("its next run is due at 2027-01-15T08:01:00+00:00",))


def test_a_queue_without_workers_is_named(lab: Lab) -> None:
    lab.create(task(queue="mail"))
    lab.worker("default")
    said = _now(lab)
    assert said.verdict == "no worker" and "'mail'" in said.reasons[0]


def test_a_pause_names_who_why_and_until_when(lab: Lab) -> None:
    stored = lab.create()
    lab.worker()
    lab.send(calls.pause(lab.partition, lab.op(), stored, "ann", "deploy", T0 + HOUR))
    said = _now(lab)
    assert said.verdict == "paused"
    assert "by ann since 2027-01-15T08:00:00+00:00 until 2027-01-15T09:00:00+00:00: deploy" in said.reasons[0]


def test_a_disabled_task_and_a_maintenance_window_are_named(lab: Lab) -> None:
    lab.create(task(enabled=False))
    lab.worker()
    lab.send(calls.maintain(lab.partition, lab.op(), T0, T0 + HOUR, "ops", "upgrade"))
    verdicts = " ".join(_now(lab).reasons)
    assert _now(lab).verdict == "disabled" and "maintenance by ops until 2027-01-15T09:00:00+00:00: upgrade" in verdicts


def test_an_overlap_names_the_run_its_worker_and_since_when(lab: Lab) -> None:
    lab.create(task(overlap=Overlap.SKIP))
    hand = lab.worker(name="web-1:42")
    lab.now += MINUTE
    attempt = hand.one()
    lab.send(calls.note_progress(lab.partition, hand.boot, attempt.run_id, attempt.token, "step 3"))
    lab.now += MINUTE
    hand.claim()
    said = _now(lab)
    assert said.verdict == "running"
    assert f"run {attempt.run_id} is running on worker web-1:42 since 2027-01-15T08:01:00" in said.reasons[0]
    assert "step 3" in said.reasons[0] and "as many open runs as it may (1)" in said.reasons[1]
    skipped = _of(lab, T0 + 2 * MINUTE)
    assert skipped.verdict == "overlap" and "an earlier run was still open" in skipped.reasons[0]


def test_what_nobody_can_call_is_named_with_the_reason(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one(), "unroutable", text="app.tasks.work no module named app")
    said = _now(lab)
    assert any("no module named app" in reason for reason in said.reasons)


def test_a_plan_that_ran_out_is_named(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE, complete=False))
    hand = lab.worker()
    lab.now += HOUR
    hand.claim()
    assert _now(lab).verdict == "replanning"


def test_an_occurrence_that_ran_says_how_it_ended(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    assert _of(lab, T0 + MINUTE).verdict == "open"
    hand.settle(attempt, "failed", text="Traceback\nValueError: no")
    said = _of(lab, T0 + MINUTE)
    assert said.verdict == "failed" and "ValueError: no" in said.reasons[0]


def test_an_occurrence_in_a_dropped_range_says_why(lab: Lab) -> None:
    lab.create()
    hand = lab.worker()
    lab.now += HOUR
    hand.claim()
    assert _of(lab, T0 + 30 * MINUTE).verdict == "coalesced"


def test_a_held_back_occurrence_and_one_still_to_come(lab: Lab) -> None:
    lab.create(task(overlap=Overlap.BUFFER_ONE, schedule="* * * * *"), every(first=T0 + MINUTE))
    hand = lab.worker()
    for _ in range(2):
        lab.now += MINUTE
        hand.claim()
    assert _of(lab, T0 + 2 * MINUTE).verdict == "held"
    assert _of(lab, T0 + 9 * MINUTE).verdict == "undecided"
    assert _of(lab, T0 + 9 * MINUTE + 1).verdict == "no occurrence"


def test_a_task_that_is_gone_says_how_it_ended_and_an_unknown_one_that_it_is_unknown(lab: Lab) -> None:
    assert _now(lab).verdict == "unknown"
    stored = lab.create()
    lab.send(calls.delete(lab.partition, lab.op(), stored))
    said = _now(lab)
    assert said.verdict == "ended" and "it was deleted" in said.reasons[0]
