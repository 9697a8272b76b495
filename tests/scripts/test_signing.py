"""Signed definitions in the scripts' hands: what is not signed as it must be is never granted twice, run or deleted."""

from dataclasses import replace

import pytest
from lab import MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis import calls, codec, operations
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Definition, Overlap, Seal, Stored
from sisy_redis.errors import SignatureError
from sisy_redis.keys import Partition, Space
from sisy_redis.queries import load_records
from sisy_redis.signing import Keyring, Signer

KEY, NEXT_KEY = "k" * 32, "n" * 32


class Signed:
    """The lab's namespace as seen by those who have keys, the first of which signs."""

    def __init__(self, lab: Lab, *keys: str) -> None:
        self.lab, self.keys = lab, keys or (KEY,)

    @property
    def space(self) -> Space:
        return replace(self.lab.space, signer=Signer(Keyring(self.keys), self.lab.namespace))

    @property
    def partition(self) -> Partition:
        return self.space.partition(0)

    def create(self, definition: Definition, plan: object = None) -> Stored:
        save = self.lab.save_of(definition, plan or every())  # type: ignore[arg-type]
        (saved,) = self.lab.send(calls.save(self.partition, [save]))
        assert saved.status == "saved"
        return Stored(definition, saved.generation, saved.version)

    def claimed(self, hand: Hand, *marks: str) -> calls.Claimed:
        hand.seq += 1
        return self.lab.send(calls.claim(self.partition, hand.boot, hand.seq, 10, hand.queues, marks))

    def save(self, definition: Definition) -> Stored:
        (stored,) = self.lab.transport.run(operations.save_all(self.space, [definition]))
        return stored

    def load(self, task_id: str = "a") -> Stored:
        _, found = self.lab.transport.run(load_records(self.space, [task_id]))
        return found[task_id]


@pytest.fixture
def signed(lab: Lab) -> Signed:
    return Signed(lab)


def alter(lab: Lab, old: bytes, new: bytes, task_id: str = "a") -> bytes:
    """Changes the stored bytes, as whoever may write to Redis can; returns what was there."""
    before: bytes = lab.client.hget(lab.partition.key("tasks"), task_id)
    assert old in before
    lab.client.hset(lab.partition.key("tasks"), task_id, before.replace(old, new))
    return before


def test_a_signed_task_is_granted_and_its_line_of_text_is_read_by_the_scripts(lab: Lab, signed: Signed) -> None:
    signed.create(task(overlap=Overlap.SKIP, label="with spaces", userdata={"n": 1}))
    hand = lab.worker()
    lab.now += MINUTE
    (attempt,) = signed.claimed(hand).attempts
    assert attempt.stored.seal is Seal.CURRENT and attempt.stored.definition.userdata == {"n": 1}
    lab.now += MINUTE
    assert signed.claimed(hand).attempts == ()


def test_a_worker_without_a_key_runs_signed_tasks(lab: Lab, signed: Signed) -> None:
    signed.create(task(userdata={"n": 1}))
    hand = lab.worker()
    lab.now += MINUTE
    assert hand.one().stored.definition.userdata == {"n": 1}


@pytest.mark.parametrize(("old", "new"), [(b"app.tasks.work", b"app.tasks.evil"), (b"good", b"evil")])
def test_an_altered_record_is_not_handed_to_a_worker_with_a_key(
    lab: Lab, signed: Signed, old: bytes, new: bytes
) -> None:
    signed.create(task(userdata={"x": "good"}))
    alter(lab, old, new)
    hand = lab.worker()
    lab.now += MINUTE
    answer = signed.claimed(hand)
    (refused,) = answer.untrusted
    assert answer.attempts == () and "was altered" in refused.reason


def refuse(lab: Lab, hand: Hand, answer: calls.Claimed) -> str:
    """What a worker does with its only untrusted attempt; returns the mark."""
    (refused,) = answer.untrusted
    back = Settlement(refused.run_id, refused.token, "unroutable", refused.queue, text=f"- {refused.reason}")
    assert lab.send(calls.settle(lab.partition, hand.boot, hand.name, [back])) == ["settled"]
    return refused.mark


def test_an_unsigned_task_is_left_as_it_is_and_reported_with_the_reason(lab: Lab, signed: Signed) -> None:
    lab.create(task(), every())
    before = lab.client.hget(lab.partition.key("tasks"), "a")
    hand = lab.worker()
    lab.now += MINUTE
    mark = refuse(lab, hand, signed.claimed(hand))
    for _ in range(30):
        lab.now += MINUTE
        answer = signed.claimed(hand, mark)
        assert (answer.attempts, answer.untrusted) == ((), ())
    assert lab.client.hget(lab.partition.key("tasks"), "a") == before
    state = lab.state()
    assert state and "is not signed" in str(state.unroutable)
    # It piles up no runs while it is refused: the rest of its occurrences stay undecided.
    assert state.open_runs == 1


def test_a_refused_record_does_not_hold_up_others_with_its_callable(lab: Lab, signed: Signed) -> None:
    lab.create(task("bad"), every())
    signed.create(task("good"))
    hand = lab.worker()
    lab.now += MINUTE
    first = signed.claimed(hand)
    mark = refuse(lab, hand, first)
    assert [a.stored.definition.id for a in first.attempts] == ["good"]
    lab.now += MINUTE
    assert [a.stored.definition.id for a in signed.claimed(hand, mark).attempts] == ["good"]


def test_a_record_that_is_put_right_runs_again_on_the_worker_that_refused_it(lab: Lab, signed: Signed) -> None:
    signed.create(task(userdata={"x": "good"}))
    before = alter(lab, b"good", b"evil")
    hand = lab.worker()
    lab.now += MINUTE
    mark = refuse(lab, hand, signed.claimed(hand))
    lab.client.hset(lab.partition.key("tasks"), "a", before)
    lab.now += MINUTE
    assert {a.stored.definition.userdata["x"] for a in signed.claimed(hand, mark).attempts} == {"good"}


def test_a_task_whose_plan_ran_out_is_not_planned_from_a_record_that_was_altered(lab: Lab, signed: Signed) -> None:
    signed.create(task(userdata={"x": "good"}), at(T0 + MINUTE, complete=False))
    alter(lab, b"good", b"evil")
    hand = lab.worker()
    lab.now += MINUTE
    answer = signed.claimed(hand)
    assert (answer.replans, answer.lows) == ((), ())
    (lost,) = answer.unplannable
    assert "was altered" in lost.reason


def test_saving_the_full_definition_signs_it_also_where_it_is_unchanged(lab: Lab, signed: Signed) -> None:
    wanted = task(schedule="@every 60", anchor_ms=0)
    lab.create(wanted, every())
    assert signed.load().seal is Seal.MISSING
    first = signed.save(wanted)
    assert signed.load().seal is Seal.CURRENT
    assert signed.save(wanted).version == first.version
    rotated = Signed(lab, NEXT_KEY, KEY)
    assert rotated.load().seal is Seal.FORMER
    rotated.save(wanted)
    assert rotated.load().seal is Seal.CURRENT and signed.load().seal is Seal.WRONG


def test_an_edit_never_vouches_for_what_others_wrote(lab: Lab, signed: Signed) -> None:
    stored = signed.save(task(schedule="@every 60", anchor_ms=0, userdata={"x": "good"}))
    alter(lab, b"good", b"evil")

    def change(current: Definition, _loaded: Definition) -> Definition:
        return replace(current, timeout_ms=5)

    with pytest.raises(SignatureError, match="save its full definition"):
        lab.transport.run(operations.edit(signed.space, stored, change))
    assert signed.load().seal is Seal.WRONG


def test_an_edit_signs_what_a_former_key_signed(lab: Lab, signed: Signed) -> None:
    stored = signed.save(task(schedule="@every 60", anchor_ms=0))
    rotated = Signed(lab, NEXT_KEY, KEY)
    lab.transport.run(operations.edit(rotated.space, stored, lambda current, _: current))
    assert rotated.load().seal is Seal.CURRENT


def test_a_signed_record_put_back_under_its_own_id_is_believed(lab: Lab, signed: Signed) -> None:
    # What a signature does not prevent, as SECURITY.md says: an older state of the same task.
    signed.save(task(schedule="@every 60", anchor_ms=0, userdata={"n": 1}))
    old = lab.client.hget(lab.partition.key("tasks"), "a")
    signed.save(task(schedule="@every 60", anchor_ms=0, userdata={"n": 2}))
    lab.client.hset(lab.partition.key("tasks"), "a", old)
    stored = signed.load()
    assert codec.distrust(stored) is None and stored.definition.userdata == {"n": 1}
