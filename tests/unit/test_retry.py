"""Retry policies: what can be stored, and that the stored numbers give the delays the policy promised."""

import dataclasses
import math
from datetime import timedelta

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from sisy_redis import retry
from sisy_redis.definitions import RetryPolicy, Wait, WaitKind
from sisy_redis.errors import SisyError, TaskError

WEEK_MS = 7 * 86_400_000


class Failed:
    """What tenacity's wait objects read of a call that failed."""

    def __init__(self, attempt_number):
        self.attempt_number = attempt_number


def delays_ms(wait, attempts=8, seed="run"):
    policy = retry.Retrying(attempts, wait=wait)
    return [retry.delay_ms(policy, failed, seed) for failed in range(1, attempts)]


@pytest.mark.parametrize(
    "given_retry",
    [
        3,
        (3, 0),
        [3, timedelta(0)],
        {"attempts": 3},
        retry.Retrying(3),
        RetryPolicy(attempts=3),
        (3, tenacity.wait_none()),
    ],
)
def test_every_way_to_say_three_attempts(given_retry):
    policy = retry.policy(given_retry)
    assert [retry.delay_ms(policy, failed, "run") for failed in (1, 2, 3, 4)] == [0, 0, None, None]


def test_no_policy_is_none_and_a_stored_policy_stays_as_it_is():
    assert retry.policy(None) is None
    stored = retry.Retrying(4, wait=tenacity.wait_random_exponential(multiplier=2, max=60))
    assert retry.policy(stored) == stored


@pytest.mark.parametrize(
    "wait", [2.5, timedelta(seconds=2.5), tenacity.wait_fixed(2.5), tenacity.wait_fixed(timedelta(0, 2.5))]
)
def test_a_fixed_wait_is_the_same_every_time(wait):
    assert delays_ms(wait) == [2500] * 7


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_fixed(2 * 86_400),
        tenacity.wait_incrementing(start=1, increment=2),
        tenacity.wait_incrementing(start=1, increment=10, max=25),
        tenacity.wait_exponential(),
        tenacity.wait_exponential(multiplier=0.25, exp_base=3, min=1, max=20),
        tenacity.wait_exponential_jitter(max=50, exp_base=3, jitter=0),
    ],
)
def test_a_wait_without_chance_is_what_tenacity_would_wait(wait):
    assert delays_ms(wait) == [round(wait(retry_state=Failed(failed)) * 1000) for failed in range(1, 8)]


@pytest.mark.parametrize(
    ("wait", "bounds"),
    [
        (tenacity.wait_random(min=1, max=3), [(1, 3)] * 4),
        (tenacity.wait_random_exponential(multiplier=2, max=10), [(0, 2), (0, 4), (0, 8), (0, 10)]),
        (tenacity.wait_random_exponential(multiplier=2, max=10, min=1), [(1, 2), (1, 4), (1, 8), (1, 10)]),
        (tenacity.wait_exponential_jitter(max=5, jitter=2), [(1, 3), (2, 4), (4, 5), (5, 5)]),
    ],
)
def test_a_wait_with_chance_stays_in_tenacitys_bounds_and_spreads_over_them(wait, bounds):
    for failed, (low, high) in enumerate(bounds):
        drawn = {delays_ms(wait, attempts=5, seed=f"run {seed}")[failed] for seed in range(200)}
        assert low * 1000 <= min(drawn) <= max(drawn) <= high * 1000
        if low < high:
            assert max(drawn) - min(drawn) > 0.8 * (high - low) * 1000


def test_the_same_run_and_attempt_always_wait_equally_and_others_differ():
    wait = tenacity.wait_random(min=0, max=1000)
    assert delays_ms(wait) == delays_ms(wait)
    assert delays_ms(wait) != delays_ms(wait, seed="other run")
    assert len(set(delays_ms(wait))) == 7


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, "3", 1001, object()])
def test_a_number_of_attempts_that_means_nothing_is_refused(attempts):
    for given_retry in (attempts, (attempts, 1), {"attempts": attempts}):
        with pytest.raises(TaskError, match="attempts"):
            retry.policy(given_retry)


class MyWait(tenacity.wait_fixed):
    def __call__(self, retry_state):
        return 42


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_chain(tenacity.wait_fixed(1)),
        tenacity.wait_fixed(1) + tenacity.wait_random(0, 1),
        tenacity.wait_exception(lambda error: 1),
        MyWait(1),
        lambda state: 1,
        "5",
        True,
        None,
    ],
)
def test_a_wait_that_cannot_be_stored_as_numbers_is_refused_and_the_known_are_named(wait):
    with pytest.raises(TaskError, match="wait_exponential") as caught:
        retry.Retrying(3, wait=wait)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, SisyError)


@pytest.mark.parametrize(
    "wait",
    [
        -1,
        math.nan,
        timedelta(seconds=-1),
        tenacity.wait_random(min=3, max=1),
        tenacity.wait_exponential(multiplier=-1),
        tenacity.wait_exponential(exp_base=math.inf),
        tenacity.wait_exponential(exp_base=-2),
        tenacity.wait_incrementing(start=10, increment=-1),
    ],
)
def test_a_wait_that_cannot_be_waited_is_refused(wait):
    with pytest.raises(TaskError):
        retry.Retrying(3, wait=wait)


@pytest.mark.parametrize("change", [{"start_ms": -1}, {"max_ms": WEEK_MS + 1}, {"step_ms": 1.5}, {"base": "x"}])
def test_a_policy_made_by_hand_is_checked(change):
    with pytest.raises(TaskError):
        retry.policy(RetryPolicy(attempts=2, wait=dataclasses.replace(Wait(), **change)))


@pytest.mark.parametrize("given_retry", [{}, {"attempts": 2, "delay": 3}, (1, 2, 3), ()])
def test_fields_that_do_not_exist_are_refused(given_retry):
    with pytest.raises(TaskError):
        retry.policy(given_retry)


@pytest.mark.parametrize("wait", [10**400, math.inf, timedelta.max, tenacity.wait_fixed(1e300)])
def test_no_wait_is_longer_than_a_week(wait):
    assert delays_ms(wait) == [WEEK_MS] * 7


whole = st.integers(0, WEEK_MS)


@given(
    st.builds(
        Wait,
        kind=st.sampled_from(WaitKind),
        start_ms=whole,
        step_ms=whole,
        max_ms=whole,
        jitter_ms=whole,
        base=st.floats(0, 1e300),
    ),
    st.integers(1, 999),
)
def test_every_stored_policy_gives_a_delay_within_its_maximum(wait, failed):
    delay = retry.delay_ms(RetryPolicy(attempts=1000, wait=wait), failed, "run")
    assert type(delay) is int and 0 <= delay <= wait.max_ms
