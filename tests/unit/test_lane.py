"""When a worker asks again: what it hears while a claim is on its way is not forgotten with the answer."""

from collections.abc import Callable

import pytest

from sisy_redis import clock
from sisy_redis.calls import Claimed
from sisy_redis.keys import Partition
from sisy_redis.worker.lane import Lane
from sisy_redis.worker.lease import Lease

NOTHING_DUE = Claimed("ok", 0, watch=1)


@pytest.fixture
def lane() -> Lane:
    partition = Partition("crew", 0)
    return Lane(partition, Lease(partition, "1", 15.0, clock.boottime()), ("default",))


@pytest.mark.parametrize("hint", [Lane.ask_now, lambda lane: lane.ask_within(1.0)], ids=["now", "within"])
def test_a_hint_while_a_claim_is_on_its_way_outlives_the_answer(lane: Lane, hint: Callable[[Lane], None]) -> None:
    lane.next_claim(1, ("default",), [])
    hint(lane)
    lane.claimed(NOTHING_DUE)
    assert lane.ask_at <= clock.monotonic() + 1.0


def test_a_hint_before_a_claim_is_answered_by_it(lane: Lane) -> None:
    lane.ask_now()
    lane.next_claim(1, ("default",), [])
    lane.claimed(NOTHING_DUE)
    assert lane.ask_at > clock.monotonic() + 5
