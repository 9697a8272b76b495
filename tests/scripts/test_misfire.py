"""Occurrences decided late: what runs, and what the ledger says of the rest."""

from lab import HOUR, MINUTE, T0, Hand, Lab, at, every, task

from sisy_redis.definitions import Misfire


def _drain(hand: Hand) -> list[int]:
    """The nominal instants, in minutes after T0, of all that can be claimed now."""
    found = []
    while True:
        answer = hand.claimed(1)
        found += [(attempt.nominal_ms - T0) // MINUTE for attempt in answer.attempts]
        if not answer.has_backlog:
            return found


def _skip(reason: str, first: int, last: int) -> tuple[str, str, str, int, int, int]:
    return "skip", "a", reason, last - first + 1, T0 + first * MINUTE, T0 + last * MINUTE


def _late(lab: Lab, minutes: int, **fields: object) -> list[int]:
    lab.create(task(**fields))
    hand = lab.worker()
    lab.now += minutes * MINUTE
    return _drain(hand)


def test_within_the_grace_every_occurrence_runs(lab: Lab) -> None:
    assert _late(lab, 5, misfire_grace_ms=4 * MINUTE + 1) == [1, 2, 3, 4, 5]
    assert lab.ledger() == []


def test_coalesce_lets_the_latest_late_occurrence_stand_for_all(lab: Lab) -> None:
    assert _late(lab, 10) == [9, 10]
    assert lab.ledger() == [_skip("coalesced", 1, 8)]


def test_all_runs_the_latest_max_catchup_oldest_first(lab: Lab) -> None:
    assert _late(lab, 10, misfire=Misfire.ALL, max_catchup=4) == [6, 7, 8, 9, 10]
    assert lab.ledger() == [_skip("limit", 1, 5)]


def test_skip_runs_nothing_late(lab: Lab) -> None:
    assert _late(lab, 10, misfire=Misfire.SKIP) == [10]
    assert lab.ledger() == [_skip("misfire", 1, 9)]


def test_nothing_older_than_the_window_runs(lab: Lab) -> None:
    assert _late(lab, 10, misfire=Misfire.ALL, catchup_window_ms=3 * MINUTE) == [7, 8, 9, 10]
    assert lab.ledger() == [_skip("window", 1, 6)]


def test_an_occurrence_older_than_the_window_is_not_coalesced_into_a_run(lab: Lab) -> None:
    lab.create(plan=at(T0 + MINUTE, T0 + 100 * HOUR))
    hand = lab.worker()
    lab.now += 25 * HOUR
    assert _drain(hand) == []
    assert lab.ledger() == [_skip("window", 1, 1)]


def test_a_one_off_run_has_no_window_and_is_never_skipped(lab: Lab) -> None:
    lab.create(task(schedule="@once", start_ms=T0 + MINUTE, misfire=Misfire.SKIP), at(T0 + MINUTE))
    state = lab.state()
    assert state and state.stored.definition.misfire is Misfire.SKIP
    hand = lab.worker()
    lab.now += 1000 * HOUR
    assert _drain(hand) == [1]


def test_without_a_window_the_age_does_not_matter(lab: Lab) -> None:
    assert _late(lab, 60 * 48, catchup_window_ms=0)[0] == 60 * 48 - 1


def test_jitter_does_not_make_an_occurrence_late(lab: Lab) -> None:
    fields = {"jitter_ms": HOUR, "misfire": Misfire.SKIP, "misfire_grace_ms": MINUTE, "catchup_window_ms": MINUTE}
    lab.create(task(**fields), at(*(T0 + hour * 2 * HOUR for hour in range(1, 9))))
    hand = lab.worker()
    runs = []
    while lab.due():
        (due,) = lab.due().values()
        lab.now = int(due)
        for attempt in hand.claim():
            runs.append((attempt.nominal_ms - T0) // HOUR)
            hand.settle(attempt)
    assert runs == [2, 4, 6, 8, 10, 12, 14, 16]


def test_late_occurrences_are_decided_once(lab: Lab) -> None:
    lab.create(plan=every(count=5, complete=True))
    hand = lab.worker()
    lab.now += 10 * MINUTE
    assert _drain(hand) == [5]
    assert lab.ledger() == [_skip("coalesced", 1, 4)]
    assert _drain(hand) == []
    assert lab.ledger() == [_skip("coalesced", 1, 4)]


def test_a_plan_that_ran_out_asks_for_another_before_anything_is_decided(lab: Lab) -> None:
    lab.create(plan=every(count=5))
    hand = lab.worker()
    lab.now += 10 * MINUTE
    answer = hand.claimed()
    assert answer.attempts == ()
    (state,) = answer.replans
    assert (state.stored.definition.id, state.cursor_ms, state.plan.segments) == ("a", T0, ())
    assert lab.ledger() == []


def test_letting_an_instant_beside_the_schedule_go_does_not_turn_the_cursor_back(lab: Lab) -> None:
    stored = lab.create(task(misfire=Misfire.SKIP), beside="now")
    lab.now += 10 * MINUTE
    lab.edit(stored, every(first=lab.now + MINUTE), beside="keep", schedule="*/2 * * * *")
    lab.worker().claim()
    assert ("skip", "a", "misfire", 1, T0, T0) in lab.ledger()
    state = lab.state()
    assert state is not None and state.plan is not None and state.plan.cursor_ms == T0 + 10 * MINUTE
