"""Saving: created once, changed by compare-and-set, planned by the server's clock."""

from dataclasses import replace
from typing import Any

import pytest
from lab import HOUR, LEASE, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, operations, queries
from sisy_redis.definitions import CallableRef, Definition, Plan, Stored
from sisy_redis.errors import ConflictError, DoesNotExist, StaleToken


def _labelled(lab: Lab, label: str) -> list[str]:
    return sorted(lab.transport.run(queries.ids_with_label(lab.space, label)))


def test_a_new_task_has_a_generation_a_place_and_a_label(lab: Lab) -> None:
    stored = lab.create(task(label="daily"))
    state = lab.state()
    assert state and state.stored == stored
    assert stored.generation == stored.version
    assert lab.due() == {"a": T0 + MINUTE}
    assert _labelled(lab, "daily") == ["a"]


def test_only_a_task_due_before_all_others_is_the_head(lab: Lab) -> None:
    rows = lab.send(
        calls.save(
            lab.partition,
            [
                lab.save_of(task("b"), at(T0 + 10)),
                lab.save_of(task("a"), at(T0 + 5)),
                lab.save_of(task("c"), at(T0 + 20)),
            ],
        )
    )
    assert [row.is_head for row in rows] == [True, True, False]


def test_an_id_that_exists_is_not_created_again(lab: Lab) -> None:
    lab.create()
    before = lab.dump()
    (row,) = lab.put(lab.save_of(task(), every()))
    assert row.status == "exists"
    assert lab.dump() == before


def test_a_repeated_creation_answers_as_the_first_even_after_an_edit(lab: Lab) -> None:
    call = calls.save(lab.partition, [lab.save_of(task(), every())])
    (first,), (second,) = lab.both(call)
    assert (second.status, second.generation) == ("saved", first.generation)
    lab.edit(Stored(task(), first.generation, first.version), timeout_ms=5)
    before = lab.dump()
    (third,) = lab.send(call)
    assert (third.status, third.generation) == ("saved", first.generation)
    assert lab.dump() == before


def test_a_repeated_creation_does_not_bring_an_ended_task_back(lab: Lab) -> None:
    call = calls.save(lab.partition, [lab.save_of(task(), at(T0 + MINUTE))])
    lab.send(call)
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one())
    (row,) = lab.send(call)
    assert row.status == "saved"
    assert lab.state() is None


def test_a_creation_made_long_ago_is_refused(lab: Lab) -> None:
    (row,) = lab.put(lab.save_of(task(), every(), op=lab.op(T0 - 600_001)))
    assert row.status == "expired"
    assert lab.dump() == {}


@pytest.mark.parametrize(
    ("plan", "planned_from"),
    [(every(), T0 + 1), (at(T0 - 1, T0, complete=False), T0 - 10), (Plan((), False), T0)],
    ids=["a clock ahead", "instants in the past", "no instants"],
)
def test_a_plan_made_with_a_wrong_clock_is_refused(lab: Lab, plan: Plan, planned_from: int) -> None:
    (row,) = lab.put(lab.save_of(task(), plan, planned_from_ms=planned_from))
    assert row.status == "replan"
    assert lab.dump() == {}


def test_instants_that_passed_while_a_save_travelled_are_no_occurrences(lab: Lab) -> None:
    lab.create(task(), every(first=T0 - 3 * MINUTE), planned_from_ms=T0 - 4 * MINUTE)
    assert lab.due() == {"a": T0 + MINUTE}
    assert lab.ledger() == []


def test_a_task_whose_first_run_is_at_once_is_due_at_once(lab: Lab) -> None:
    lab.create(task(schedule="@once"), Plan((), True), beside="now")
    hand = lab.worker()
    attempt = hand.one()
    assert attempt.nominal_ms == T0
    hand.settle(attempt)
    assert lab.state() is None


def test_a_task_that_has_nothing_coming_ends_at_once(lab: Lab) -> None:
    lab.put(lab.save_of(task(), Plan((), True)))
    assert lab.state() is None
    assert lab.ledger() == [("ended", "a", "end")]


def test_a_repeated_change_answers_as_the_first(lab: Lab) -> None:
    loaded = lab.create()
    (first,), (second,) = lab.both(
        calls.save(lab.partition, [lab.save_of(replace(loaded.definition, timeout_ms=1), None, loaded)])
    )
    assert first.status == second.status == "saved"
    assert (first.generation, first.version) == (second.generation, second.version)


def test_a_change_needs_the_version_it_was_loaded_at(lab: Lab) -> None:
    loaded = lab.create()
    lab.edit(loaded, timeout_ms=1)
    (row,) = lab.put(lab.save_of(replace(loaded.definition, timeout_ms=2), None, loaded))
    assert row.status == "conflict"


def test_a_change_of_a_deleted_and_recreated_task_is_gone(lab: Lab) -> None:
    old = lab.create()
    lab.send(calls.delete(lab.partition, lab.op(), old))
    lab.create()
    (row,) = lab.put(lab.save_of(replace(old.definition, timeout_ms=2), None, old))
    assert row.status == "gone"
    assert lab.state().stored.definition.timeout_ms == 0  # type: ignore[union-attr]


def test_a_run_that_lost_its_lease_cannot_change_its_task(lab: Lab) -> None:
    loaded = lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    good = lab.save_of(
        replace(loaded.definition, userdata={"n": 1}), None, loaded, run_id=attempt.run_id, token=attempt.token
    )
    (row,) = lab.send(calls.save(lab.partition, [good], hand.boot))
    assert row.status == "saved"
    hand.reaped()
    (row,) = lab.send(calls.save(lab.partition, [replace(good, op=lab.op())], hand.boot))
    assert row.status == "stale"


def test_a_change_of_anything_but_the_schedule_keeps_the_plan(lab: Lab) -> None:
    loaded = lab.create()
    column = lab.column("plan")
    lab.edit(loaded, timeout_ms=9)
    assert lab.column("plan") == column


def test_a_label_change_moves_the_task_in_the_index(lab: Lab) -> None:
    loaded = lab.create(task(label="old"))
    lab.edit(loaded, label="new")
    assert (_labelled(lab, "old"), _labelled(lab, "new")) == ([], ["a"])
    lab.create(task("b", label="new"))
    lab.create(task("c", label="newer"))
    assert _labelled(lab, "new") == ["a", "b"]


def test_a_queue_change_moves_the_task(lab: Lab) -> None:
    loaded = lab.create()
    lab.edit(loaded, queue="mail")
    assert (lab.due(), lab.due("mail")) == ({}, {"a": T0 + MINUTE})
    lab.now += MINUTE
    assert lab.worker().claim() == ()
    assert len(lab.worker("mail").claim()) == 1


def test_a_schedule_change_counts_from_now_and_records_what_was_due(lab: Lab) -> None:
    loaded = lab.create()
    lab.now += 3 * MINUTE
    lab.edit(loaded, every(HOUR, T0 + HOUR), schedule="0 * * * *")
    assert lab.due() == {"a": T0 + HOUR}
    assert lab.ledger() == [("skip", "a", "edited", 3, T0 + MINUTE, T0 + 3 * MINUTE)]
    state = lab.state()
    assert state and state.plan and state.plan.cursor_ms == lab.now


def test_a_schedule_change_keeps_open_runs(lab: Lab) -> None:
    loaded = lab.create()
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    edited = lab.edit(loaded, every(HOUR, T0 + HOUR), schedule="0 * * * *")
    assert hand.settle(attempt, "retry")
    lab.now += 1
    assert hand.one().stored == edited


def test_a_disabled_task_waits_and_goes_on_after_it_is_enabled(lab: Lab) -> None:
    loaded = lab.create()
    off = lab.edit(loaded, every(), enabled=False)
    assert lab.due() == {"a": float("inf")}
    hand = lab.worker()
    lab.now += 10 * MINUTE
    assert hand.claim() == ()
    lab.edit(off, every(first=lab.now + MINUTE), enabled=True)
    assert lab.due() == {"a": lab.now + MINUTE}
    assert lab.ledger() == [("skip", "a", "disabled", 10, T0 + MINUTE, T0 + 10 * MINUTE)]


def test_what_a_short_plan_missed_while_disabled_is_recorded_without_a_count(lab: Lab) -> None:
    loaded = lab.create(plan=every(count=5))
    off = lab.edit(loaded, every(count=5), enabled=False)
    lab.now += HOUR
    lab.edit(off, every(first=lab.now + MINUTE), enabled=True)
    assert lab.ledger() == [("skip", "a", "disabled", 0, T0 + MINUTE, lab.now)]


@pytest.mark.parametrize(
    ("before", "done", "after", "left"), [(3, 1, 5, 4), (5, 2, 3, 1), (0, 2, 2, 2), (3, 1, 0, None)]
)
def test_changed_iterations_count_the_runs_so_far(
    lab: Lab, before: int, done: int, after: int, left: int | None
) -> None:
    loaded = lab.create(task(iterations=before))
    hand = lab.worker()
    for _ in range(done):
        lab.now += MINUTE
        hand.settle(hand.one())
    lab.edit(loaded, every(first=lab.now + MINUTE), iterations=after)
    state = lab.state()
    assert state and state.iterations_left == left


def test_fewer_iterations_than_runs_so_far_end_the_task(lab: Lab) -> None:
    loaded = lab.create(task(iterations=5))
    hand = lab.worker()
    lab.now += MINUTE
    hand.settle(hand.one())
    lab.now += MINUTE
    last = hand.one()
    lab.edit(loaded, every(first=lab.now + MINUTE), iterations=2)
    assert lab.due() == {}
    hand.settle(last)
    assert lab.state() is None


def test_a_schedule_change_grants_no_iterations(lab: Lab) -> None:
    loaded = lab.create(task(iterations=1))
    hand = lab.worker()
    lab.now += MINUTE
    last = hand.one()
    lab.edit(loaded, every(HOUR, T0 + HOUR), schedule="0 * * * *")
    lab.now += HOUR
    assert hand.claim() == ()
    hand.settle(last)
    assert lab.state() is None


def test_a_disabled_task_that_has_ended_is_removed_with_its_last_run(lab: Lab) -> None:
    loaded = lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    last = hand.one()
    lab.edit(loaded, Plan((), True), enabled=False)
    hand.settle(last)
    assert lab.state() is None


def test_a_repeated_change_that_ended_its_task_answers_as_the_first(lab: Lab) -> None:
    loaded = lab.create()
    call = calls.save(lab.partition, [lab.save_of(replace(loaded.definition, end_ms=T0 + 1), Plan((), True), loaded)])
    (first,), (second,) = lab.both(call)
    assert first.status == second.status == "saved"
    assert lab.state() is None


def test_each_task_of_a_batch_is_answered_for_itself(lab: Lab) -> None:
    lab.create(task("b"))
    rows = lab.put(*(lab.save_of(task(name), every()) for name in "abc"))
    assert [row.status for row in rows] == ["saved", "exists", "saved"]


def _cron(**fields: Any) -> Definition:
    path = CallableRef(path="app.work", module_name="app", func_name="work")
    return Definition(**({"id": "x", "label": "x", "callable": path, "schedule": "0 * * * *"} | fields))


def test_saving_the_same_again_changes_nothing(lab: Lab) -> None:
    (stored,) = lab.transport.run(operations.save_all(lab.space, [_cron()]))
    before = lab.dump()
    lab.now += 1
    assert lab.transport.run(operations.save_all(lab.space, [_cron()])) == [stored]
    assert lab.dump() == before


def test_without_upsert_an_existing_id_is_a_conflict(lab: Lab) -> None:
    lab.transport.run(operations.save_all(lab.space, [_cron()]))
    with pytest.raises(ConflictError, match="'x'"):
        lab.transport.run(operations.save_all(lab.space, [_cron()], upsert=False))


def test_an_edit_applies_to_what_is_stored_now(lab: Lab) -> None:
    (loaded,) = lab.transport.run(operations.save_all(lab.space, [_cron()]))
    lab.transport.run(operations.edit(lab.space, loaded, lambda now, _: replace(now, timeout_ms=5)))
    lab.transport.run(operations.edit(lab.space, loaded, lambda now, _: replace(now, queue="mail")))
    state = lab.state("x")
    assert state and (state.stored.definition.timeout_ms, state.stored.definition.queue) == (5, "mail")


def test_an_edit_of_a_task_that_is_gone_says_so(lab: Lab) -> None:
    (loaded,) = lab.transport.run(operations.save_all(lab.space, [_cron()]))
    assert lab.transport.run(operations.delete(lab.space, loaded)) is True
    assert lab.transport.run(operations.delete(lab.space, loaded)) is False
    with pytest.raises(DoesNotExist, match="'x'"):
        lab.transport.run(operations.edit(lab.space, loaded, lambda now, _: replace(now, timeout_ms=5)))


def test_an_edit_from_a_run_that_lost_its_lease_is_refused(lab: Lab) -> None:
    (loaded,) = lab.transport.run(operations.save_all(lab.space, [_cron()]))
    hand = lab.worker()
    lab.now += HOUR
    attempt = hand.one()
    lab.now += LEASE
    hand.reaped()
    fence = {"boot": hand.boot, "run_id": attempt.run_id, "token": attempt.token}
    with pytest.raises(StaleToken):
        lab.transport.run(operations.edit(lab.space, loaded, lambda now, _: replace(now, timeout_ms=5), **fence))


@pytest.mark.corrupts
def test_a_record_that_cannot_be_read_is_not_overwritten_by_a_creation(lab: Lab) -> None:
    lab.create()
    lab.client.hset(lab.partition.key("tasks"), "a", b"9 from a newer release")
    lab.is_checked = False
    (saved,) = lab.put(lab.save_of(task(), every()))
    assert saved.status == "exists"
    assert lab.column("tasks") == {"a": "9 from a newer release"}


def test_after_a_step_back_an_edit_plans_nothing_that_was_decided_already(lab: Lab) -> None:
    stored = lab.create()
    hand = lab.worker()
    lab.now += 10 * MINUTE
    for _ in range(10):
        hand.claim()
    lab.now -= 5 * MINUTE
    lab.edit(stored, every(first=lab.now + MINUTE), schedule="* * * * *")
    assert lab.due() == {"a": T0 + 11 * MINUTE}


def test_a_run_that_was_granted_anew_to_the_same_worker_saves_under_its_new_token_only(lab: Lab) -> None:
    stored = lab.create(plan=at(T0 + MINUTE))
    hand = lab.worker()
    lab.now += MINUTE
    first = hand.one()
    hand.settle(first, "release")
    second = hand.one()
    assert first.run_id == second.run_id
    for attempt, status in ((first, "stale"), (second, "saved")):
        save = lab.save_of(
            replace(stored.definition, label="new"), None, stored, run_id=attempt.run_id, token=attempt.token
        )
        (saved,) = lab.once(calls.save(lab.partition, [save], hand.boot))
        assert saved.status == status


def test_a_one_off_made_of_a_task_at_an_instant_that_was_admitted_is_another_run(lab: Lab) -> None:
    stored, hand = lab.create(), lab.worker()
    lab.now += MINUTE
    first = hand.one()
    lab.edit(stored, at(), beside="now", schedule="@once")
    lab.now += 1
    second = hand.one()
    assert (first.run_id, second.run_id) == (
        f"a:{stored.generation}:{T0 + MINUTE}",
        f"a:{stored.generation}:{T0 + MINUTE + 1}",
    )
