"""What is broken is found, mended where that loses nothing, and reported where it would."""

import pytest
from lab import HOUR, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, codec, doctor, planning
from sisy_redis.definitions import Overlap

pytestmark = pytest.mark.corrupts

GOOD = {"schedule": "* * * * *"}


def _examine(lab: Lab, *, fix: bool = False) -> list[tuple[str, str, bool | None]]:
    found = lab.transport.run(doctor.examine(lab.space, fix=fix))
    return [(one.what, one.id, one.is_mended) for one in found]


def _healed(lab: Lab, *expected: tuple[str, str]) -> None:
    """What is found is mended, and nothing is left afterwards."""
    assert _examine(lab) == [(what, one, None) for what, one in expected]
    assert _examine(lab, fix=True) == [(what, one, True) for what, one in expected]
    assert _examine(lab) == []
    lab.is_checked = True
    lab.send(calls.server_time(lab.space))


def _sound(lab: Lab) -> None:
    definition = task(overlap=Overlap.SKIP, **GOOD)
    lab.create(definition, planning.plan(definition, lab.now))
    lab.is_checked = False


def test_a_sound_namespace_has_nothing_to_find(lab: Lab) -> None:
    lab.create(task(overlap=Overlap.BUFFER_ONE, iterations=4))
    lab.create(task("b", label="other", queue="mail"), at(T0 + MINUTE))
    hand, mail = lab.worker(), lab.worker("mail")
    for _ in range(2):
        lab.now += MINUTE
        hand.claim()
        mail.claim()
    assert _examine(lab) == []


def test_a_task_without_a_plan_is_planned_anew(lab: Lab) -> None:
    _sound(lab)
    lab.client.hdel(lab.partition.key("plan"), "a")
    _healed(lab, ("plan", "a"))
    lab.now += MINUTE
    assert len(lab.worker().claim()) == 1


def test_a_plan_that_cannot_be_read_is_made_anew_also_after_a_claim_met_it(lab: Lab) -> None:
    _sound(lab)
    lab.client.hset(lab.partition.key("plan"), "a", "1 2 3 - garbage")
    lab.now += MINUTE
    lab.worker().claim()
    assert lab.due() == {"a": float("inf")}
    _healed(lab, ("plan", "a"))
    assert lab.due() == {"a": T0 + 2 * MINUTE} and lab.column("quarantine") == {}


def test_a_task_in_no_queue_is_put_back(lab: Lab) -> None:
    _sound(lab)
    lab.client.zrem(lab.partition.due("default"), "a")
    _healed(lab, ("schedule", "a"))
    assert lab.due() == {"a": T0 + MINUTE}


def test_a_place_in_a_queue_without_a_task_is_removed(lab: Lab) -> None:
    _sound(lab)
    lab.client.zadd(lab.partition.due("default"), {"ghost": T0})
    _healed(lab, ("schedule", "ghost"))


def test_labels_are_mended_both_ways(lab: Lab) -> None:
    _sound(lab)
    lab.client.zrem(lab.partition.key("labels"), "a\0a")
    lab.client.zadd(lab.partition.key("labels"), {"ghost\0ghost": 0})
    _healed(lab, ("label", "a"), ("label", "ghost"))


@pytest.mark.parametrize("column", ["7 1,2,3", "junk"])
def test_a_wrong_number_of_open_runs_is_counted_anew(lab: Lab, column: str) -> None:
    _sound(lab)
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    lab.client.hset(lab.partition.key("open"), "a", column)
    _healed(lab, ("open", "a"))
    hand.settle(attempt)
    assert lab.column("open") == {}


def test_an_open_run_that_nobody_knows_no_longer_blocks_its_task(lab: Lab) -> None:
    _sound(lab)
    lab.client.hset(lab.partition.key("open"), "a", "1 5")
    _healed(lab, ("open", "a"))
    lab.now += MINUTE
    assert len(lab.worker().claim()) == 1


def test_waiting_runs_get_back_their_fields_or_their_place(lab: Lab) -> None:
    _sound(lab)
    hand = lab.worker()
    lab.now += MINUTE
    attempt = hand.one()
    hand.settle(attempt, "retry", delay_ms=HOUR)
    lab.client.zrem(lab.partition.waiting_queue("default"), attempt.run_id)
    _healed(lab, ("waiting", attempt.run_id))
    lab.is_checked = False
    lab.client.hdel(lab.partition.key("waiting"), attempt.run_id)
    assert ("waiting", attempt.run_id, True) in _examine(lab, fix=True)
    assert _examine(lab) == []
    assert [a.run_id for a in hand.claim()] == [attempt.run_id]


def test_facts_about_a_task_that_is_gone_are_forgotten_but_a_plan_is_kept_in_quarantine(lab: Lab) -> None:
    for kind in ("remaining", "last", "paused"):
        lab.client.hset(lab.partition.key(kind), "ghost", "3")
    lab.client.hset(lab.partition.key("plan"), "ghost", "1 2 3 - 4:5:6")
    assert _examine(lab, fix=True) == [("leftover", "ghost", True)]
    assert lab.column("quarantine") == {"ghost": "a plan without a task: 1 2 3 - 4:5:6"}
    assert _examine(lab) == [("quarantine", "ghost", None)]


@pytest.mark.parametrize(
    "record", [b"junk", b"9 1 2 = x default - app.f \n", b"1 1 2 = x default overlap=maybe app.f \n\x80"]
)
def test_a_record_that_cannot_be_read_is_reported_and_left_as_it_is(lab: Lab, record: bytes) -> None:
    _sound(lab)
    lab.client.hset(lab.partition.key("tasks"), "a", record)
    assert _examine(lab, fix=True) == [("task", "a", None)]
    assert lab.client.hget(lab.partition.key("tasks"), "a") == record


def test_a_truncated_body_is_reported_and_left_as_it_is(lab: Lab) -> None:
    stored = lab.create(task(userdata={"long": "x" * 100}))
    key = lab.partition.key("tasks")
    record = lab.client.hget(key, "a")[:-10]
    lab.client.hset(key, "a", record)
    lab.is_checked = False
    assert _examine(lab, fix=True) == [("task", "a", None)]
    assert lab.client.hget(key, "a") == record
    with pytest.raises(codec.CorruptRecord):
        codec.decode("a", record)
    assert stored.definition.id == "a"


def test_a_quarantined_task_that_is_well_again_goes_back_into_the_schedule(lab: Lab) -> None:
    _sound(lab)
    key = lab.partition.key("tasks")
    record = lab.client.hget(key, "a")
    lab.client.hset(key, "a", b"junk")
    lab.now += MINUTE
    lab.worker().claim()
    assert lab.due() == {"a": float("inf")}
    lab.client.hset(key, "a", record)
    _healed(lab, ("quarantine", "a"))
    assert len(lab.worker().claim()) == 1


def test_what_changed_meanwhile_is_left_alone(lab: Lab) -> None:
    lab.create(plan=every())
    for what in ("leftover", "unscheduled", "waiting", "quarantine"):
        assert lab.send(calls.mend(lab.partition, what, "a", "x", "y")) is False
    assert lab.send(calls.mend(lab.partition, "open", "a", "3 1,2,3", "")) is False
    assert lab.send(calls.mend(lab.partition, "label", "a", new="a\0a")) is False
