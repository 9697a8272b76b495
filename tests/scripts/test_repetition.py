"""Each script is among those the other tests send twice: one walk through all of them, told by name."""

from lab import LEASE, MINUTE, T0, Lab, at, every, task

from sisy_redis import calls, scripts
from sisy_redis.calls import Unplannable
from sisy_redis.definitions import Plan


def test_every_script_can_be_repeated_byte_for_byte_without_a_further_effect(lab: Lab) -> None:
    lab.send(calls.open_namespace(lab.space, 1))
    lab.send(calls.wake(lab.space, 2))
    hand, other = lab.worker(), lab.worker()
    daily = lab.create(task("daily", iterations=9), every(first=T0 + 1, count=9))
    lab.create(task("late"), every(first=T0 + 1, count=2))
    lab.now += 1
    hand.renew()
    low, *_ = hand.claimed(2).lows
    lab.send(calls.extend(lab.partition, [(low, T0 + 1 + 8 * MINUTE, at(T0 + 20 * MINUTE))]))
    lab.send(calls.start(lab.partition, hand.boot, *_held(lab, hand.boot)))
    lab.send(calls.trigger(lab.partition, lab.op(), daily, counts=True))
    missing = Unplannable(daily.definition.id, lab.column("plan")["daily"].encode(), "default", "no such zone")
    assert lab.send(calls.postpone(lab.partition, lab.op(), missing)) == "postponed"
    lab.send(calls.pause(lab.partition, lab.op(), daily, "me", "why"))
    lab.now += 2 * MINUTE
    lab.send(calls.resume(lab.partition, lab.op(), daily))
    lab.now += LEASE
    hand.reaped()
    answer = other.claimed(9)
    (state,) = [row for row in answer.replans if row.stored.definition.id == "late"]
    lab.send(calls.replan(lab.partition, state, (), Plan((), True)))
    first, *rest = answer.attempts
    lab.send(calls.note_progress(lab.partition, other.boot, first.run_id, first.token, "half"))
    lab.send(calls.cancel(lab.partition, lab.op(), first.run_id, "default", "me", "why"))
    other.settle(first, "failed", is_dead=True)
    for attempt in rest:
        other.settle(attempt)
    lab.send(calls.requeue(lab.partition, lab.op(), first.run_id, "default"))
    lab.send(calls.bury(lab.partition, [first.run_id]))
    lab.send(calls.purge(lab.partition, T0 - 1))
    lab.send(calls.skip(lab.partition, lab.op(), daily, 2))
    lab.send(calls.maintain(lab.partition, lab.op(), lab.now, lab.now + 1, "me", "why"))
    run_id = lab.send(calls.trigger(lab.partition, lab.op(), daily, counts=True))[1]
    lab.edit(daily, every(first=lab.now + 1), queue="new")
    assert lab.send(calls.move(lab.partition, run_id, "default", "new")) == "moved"
    lab.send(calls.delete(lab.partition, lab.op(), daily))
    past = calls.backfill(lab.partition, lab.op(), lab.create(task("past")), "b1", 2, 3, at(T0 - 3, T0 - 2, T0 - 1))
    assert lab.send(past) == "started"
    assert lab.send(calls.unbackfill(lab.partition, "past", "b1")) == "ended"
    lab.send(calls.mend(lab.partition, "leftover", "nobody"))
    lab.send(calls.leave(lab.partition, other.boot))
    assert lab.sent_twice == set(scripts.names())


def _held(lab: Lab, boot: str) -> tuple[str, int]:
    run_id, row = next(iter(lab.client.hgetall(lab.partition.live(boot)).items()))
    return run_id.decode(), int(row.split(b" ")[0])
