"""Planning against brute force, and its laws."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from sisy_redis.clock import FAR_FUTURE_MS, from_ms, to_ms
from sisy_redis.definitions import CallableRef, Definition, DstRule, Misfire, Plan, Reason, Segment
from sisy_redis.errors import ScheduleError
from sisy_redis.planning import check_schedule, decode, encode, jitter_ms, plan, replan, upcoming

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
NOW = to_ms(datetime(2026, 11, 23, 15, 31, 7, 250_000, tzinfo=UTC))
REF = CallableRef(path="a.b", module_name="a", func_name="b")
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/St_Johns",
    "Africa/Casablanca",
    "America/Havana",
    "Asia/Kathmandu",
]
TRANSITIONS = [
    datetime(2025, 3, 9),
    datetime(2025, 3, 30),
    datetime(2025, 4, 6),
    datetime(2025, 9, 28),
    datetime(2025, 10, 5),
    datetime(2025, 10, 26),
    datetime(2025, 11, 2),
    datetime(2026, 6, 15),
]


def definition(schedule="* * * * *", **fields):
    return Definition(id="task", label="task", callable=REF, schedule=schedule, **fields)


def listed(value, most=100_000):
    found = []
    for segment in value.segments:
        count = most if segment.count is None else segment.count
        found += [segment.first_ms + index * segment.step_ms for index in range(count)]
    return found


def field(low, high):
    number = st.integers(low, high).map(str)
    pair = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    ranges = pair.filter(lambda p: p[0] < p[1]).map(lambda p: f"{p[0]}-{p[1]}")
    steps = st.integers(2, 20).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), number, ranges, steps, st.lists(number, min_size=2, max_size=4).map(",".join))


days = st.one_of(st.just("*"), field(1, 28))
weekdays = st.one_of(st.just("*"), field(0, 6))
expressions = st.tuples(field(0, 59), field(0, 23), days, st.just("*"), weekdays).map(" ".join)
starts = st.builds(
    lambda at, minutes: to_ms(at.replace(tzinfo=UTC)) + minutes * MINUTE + 1,
    st.sampled_from(TRANSITIONS),
    st.integers(-2_000, 1_000),
)


def brute_force(expression, tz, dst, after_ms, minutes):
    """The documented rule, applied to every local minute with croniter as the judge of naive local time."""
    zone, fixed = ZoneInfo(tz), not any(part.startswith("*") for part in expression.split()[:2])
    local = from_ms(after_ms // MINUTE * MINUTE).astimezone(zone).replace(tzinfo=None) - timedelta(hours=30)
    cron, end = croniter(expression, local, implement_cron_bug=True), local + timedelta(minutes=minutes + 3_600)
    found = set()
    while (naive := cron.get_next(datetime)) < end:
        passes = [naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        real = [at for at in passes if at.astimezone(zone).replace(tzinfo=None) == naive]
        if real:
            found |= {real[0]} if fixed and dst is not DstRule.BOTH else set(real)
        elif fixed and dst is not DstRule.SKIP:
            later = naive
            while later.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != later:
                later += timedelta(minutes=1)
            found.add(later.replace(tzinfo=zone).astimezone(UTC))
    low, high = from_ms(after_ms), from_ms(after_ms + minutes * MINUTE)
    return sorted(to_ms(at) for at in found if low < at <= high)


@settings(max_examples=250, deadline=None)
@given(expressions, st.sampled_from(ZONES), st.sampled_from(DstRule), starts)
def test_a_plan_is_what_brute_force_finds(expression, tz, dst, after):
    expected = brute_force(expression, tz, dst, after, 48 * 60)
    found = listed(plan(definition(expression, tz=tz, dst=dst), after, max_segments=10_000))
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or len(found) == 2


@settings(max_examples=150, deadline=None)
@given(expressions, st.sampled_from(ZONES), starts, st.integers(2, 8))
def test_plans_continue_each_other_without_gap_or_repeat(expression, tz, after, most):
    task = definition(expression, tz=tz)
    whole = listed(plan(task, after, horizon_ms=10 * DAY, max_segments=10_000))
    joined, cursor = [], after
    while len(joined) < min(len(whole), 200):
        part = plan(task, cursor, max_segments=most)
        assert 1 <= len(part.segments) <= most and not part.complete
        joined += listed(part)
        cursor = joined[-1]
    assert joined[: len(whole)] == whole[: len(joined)]


@settings(max_examples=150, deadline=None)
@given(expressions, starts, st.integers(1, 30 * HOUR))
def test_thinned_instants_keep_their_distance_across_plans(expression, after, gap):
    task = definition(expression, min_gap_ms=gap)
    every = set(listed(plan(definition(expression), after, horizon_ms=20 * DAY, max_segments=100_000)))
    first = listed(plan(task, after))
    second = listed(plan(task, first[-1]))
    assert all(later - earlier >= gap for earlier, later in pairwise(first + second))
    assert all(at in every for at in first + second if at < after + 20 * DAY)


@pytest.mark.parametrize("expression", ["* * * * * *", "* * * * *", "*/5 * * * *", "0 * * * *", "* * * * * */10"])
def test_a_regular_schedule_is_one_segment(expression):
    found = plan(definition(expression, tz="Europe/Berlin"), NOW)
    assert len(found.segments) == 1
    assert found.segments[0].first_ms > NOW
    assert NOW + 47 * HOUR <= listed(found)[-1] <= NOW + 48 * HOUR


def test_a_plan_has_two_instants_beyond_its_horizon():
    assert [from_ms(ms).year for ms in listed(plan(definition("0 0 29 2 *"), NOW))] == [2028, 2032]


def test_an_irregular_schedule_stops_at_the_most_segments():
    assert len(plan(definition("1,2,5,9,30 * * * * 1,7,9"), NOW).segments) == 8


def test_start_is_inclusive_and_end_exclusive():
    start = to_ms(datetime(2026, 11, 24, tzinfo=UTC))
    found = plan(definition("0 * * * *", start_ms=start, end_ms=start + 3 * HOUR), NOW)
    assert found == Plan((Segment(start, HOUR, 3),), True)


def test_a_plan_after_the_end_is_empty_and_complete():
    for schedule in ("* * * * *", "@every 5"):
        assert plan(definition(schedule, end_ms=NOW), NOW) == Plan((), True)


def test_an_interval_is_one_endless_segment_on_its_anchor():
    task = definition("@every 2.5", anchor_ms=NOW)
    assert plan(task, NOW) == Plan((Segment(NOW + 2_500, 2_500, None),), False)
    assert plan(task, NOW - 2_501) == Plan((Segment(NOW - 2_500, 2_500, None),), False)
    assert plan(replace(task, end_ms=NOW + 5_001), NOW) == Plan((Segment(NOW + 2_500, 2_500, 2),), True)
    assert plan(replace(task, min_gap_ms=6_000), NOW) == Plan((Segment(NOW + 7_500, 7_500, None),), False)


def test_a_one_off_is_due_at_its_start_and_then_complete():
    task = definition("@once", start_ms=NOW)
    assert plan(task, NOW - 1) == Plan((Segment(NOW, 0, 1),), True)
    assert plan(task, NOW) == Plan((), True)


segments = st.builds(Segment, st.integers(0, 2**53), st.integers(0, 2**40), st.integers(1, 10**6) | st.none())


@given(st.builds(Plan, st.lists(segments, max_size=9).map(tuple), st.booleans()))
def test_a_plan_survives_its_text(value):
    assert decode(encode(value)) == value


def test_a_plan_has_the_text_the_scripts_read():
    assert encode(Plan((Segment(5, 0, 1), Segment(9, 2, None)), False)) == "5:0:1,9:2:*"
    assert encode(Plan((Segment(5, 0, 1),), True)) == "5:0:1."
    assert (encode(Plan()), encode(Plan((), True))) == ("", ".")


@pytest.mark.parametrize("text", ["x", "1:2", "1:2:3,", "1:2:-3", "1:2:3.."])
def test_another_text_is_no_plan(text):
    with pytest.raises(ValueError, match="Not a plan"):
        decode(text)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "7,23,41 * * * *", "@every 97", "0 */6 * * mon-fri"]),
    st.sampled_from(Misfire),
    st.integers(0, 20 * DAY),
    st.sampled_from([0, 60_000, 2 * HOUR]),
    st.sampled_from([0, HOUR, DAY, 9 * DAY]),
    st.integers(0, 30),
    st.sampled_from([0, 0, 3 * HOUR]),
)
def test_a_replan_decides_every_missed_instant_once(schedule, misfire, missed_ms, grace, window, most, gap):
    task = definition(
        schedule,
        tz="Europe/Berlin",
        misfire=misfire,
        misfire_grace_ms=grace,
        catchup_window_ms=window,
        max_catchup=most,
        min_gap_ms=gap,
    )
    cursor = NOW - missed_ms
    every = listed(plan(task, cursor, horizon_ms=missed_ms + DAY, max_segments=100_000), 50_000)
    late = [at for at in every if at <= NOW - grace]
    old = [at for at in late if window and at < NOW - window]
    found = replan(task, cursor, NOW)
    kept = [at for at in listed(found.plan, 5_000) if at <= NOW - grace]
    fresh = late[len(old) :]
    allowed = {Misfire.COALESCE: 1, Misfire.SKIP: 0, Misfire.ALL: most}[misfire]
    assert kept == fresh[len(fresh) - min(allowed, len(fresh)) :]
    counts = {dropped.reason: dropped for dropped in found.dropped}
    assert sum(dropped.count for dropped in found.dropped) + len(kept) == len(late)
    if old:
        window_drop = counts[Reason.WINDOW]
        assert (window_drop.count, window_drop.first_ms, window_drop.last_ms) == (len(old), old[0], old[-1])
    after = [at for at in listed(found.plan, 5_000) if at > NOW - grace]
    expected = [at for at in every if at > NOW - grace]
    assert after and after[: len(expected)] == expected[: len(after)]


def test_each_policy_names_its_reason():
    reasons = {}
    for misfire in Misfire:
        task = definition("*/10 * * * *", misfire=misfire, max_catchup=2)
        reasons[misfire] = [dropped.reason for dropped in replan(task, NOW - 2 * DAY, NOW).dropped]
    assert reasons == {
        Misfire.COALESCE: [Reason.WINDOW, Reason.COALESCED],
        Misfire.SKIP: [Reason.WINDOW, Reason.MISFIRE],
        Misfire.ALL: [Reason.WINDOW, Reason.LIMIT],
    }


def test_more_missed_instants_than_can_be_read_have_no_count():
    task = definition("1,2,5,9,30 * * * * 1,7,9")
    first = replan(task, NOW - 900 * DAY, NOW).dropped[0]
    assert (first.reason, first.count) == (Reason.WINDOW, None)
    newest = to_ms(datetime(2026, 11, 22, 15, 30, 9, tzinfo=UTC))
    assert first.first_ms > NOW - 900 * DAY and first.last_ms == newest


def test_a_one_off_is_never_dropped():
    task = definition("@once", start_ms=NOW - 900 * DAY)
    assert replan(task, NOW - 900 * DAY - 1, NOW).plan == Plan((Segment(NOW - 900 * DAY, 0, 1),), True)
    assert replan(task, NOW - 900 * DAY - 1, NOW).dropped == ()


@given(st.text(min_size=1, max_size=20), st.integers(0, FAR_FUTURE_MS), st.integers(1, DAY))
def test_jitter_is_the_hash_the_scripts_compute(task_id, nominal, limit):
    expected = int(hashlib.sha1(f"{task_id}:{nominal}".encode()).hexdigest()[:8], 16) % limit
    assert jitter_ms(task_id, nominal, limit) == expected
    assert jitter_ms(task_id, nominal, 0) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "61 * * * *"}, "minute field '61' is not valid"),
        ({"schedule": "* 25 * * *"}, "hour field '25'"),
        ({"schedule": "* * 32 * *"}, "day-of-month field '32'"),
        ({"schedule": "* * * foo *"}, "month field 'foo'"),
        ({"schedule": "* * * * 1#6"}, "day-of-week field '1#6'"),
        ({"schedule": "* * * * * 60"}, "second field '60'"),
        ({"schedule": "*/0 * * * *"}, r"minute field '\*/0'"),
        ({"schedule": "R * * * *"}, "minute field 'r' is random"),
        ({"schedule": "* R(1-5) * * *"}, "hour field .* is random"),
        ({"schedule": "* * * *"}, "4 fields"),
        ({"schedule": "* * * * * * *"}, "7 fields"),
        ({"schedule": ""}, "0 fields"),
        ({"schedule": "0 " * 150}, "300 characters, at most 256"),
        ({"schedule": "0 0 30 2 *"}, "never fires"),
        ({"schedule": "@reboot"}, "unknown alias"),
        ({"schedule": None}, "must be text"),
        ({"schedule": "@every"}, "@every needs"),
        ({"schedule": "@every x"}, "@every needs"),
        ({"schedule": "@every 0"}, "@every needs"),
        ({"schedule": "@every nan"}, "@every needs"),
        ({"schedule": "@every inf"}, "@every needs"),
        ({"tz": "Europe/Nowhere"}, "Unknown time zone 'Europe/Nowhere'"),
        ({"tz": ""}, "Unknown time zone"),
        ({"tz": "../etc/passwd"}, "Unknown time zone"),
        ({"schedule": "@once", "tz": "x"}, "Unknown time zone"),
        ({"start_ms": NOW, "end_ms": NOW}, "end_running must be later"),
        ({"schedule": "0 0 1 1 *", "start_ms": NOW, "end_ms": NOW + DAY}, "never fires between"),
        ({"jitter_ms": -1}, "jitter_ms cannot be negative"),
        ({"jitter_ms": 60_001}, "jitter .* cannot exceed the gap"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ScheduleError, match=message):
        check_schedule(definition(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"schedule": "@once"},
        {"schedule": "@every 0.001"},
        {"schedule": "H H * * *"},
        {"schedule": "@daily"},
        {"schedule": "0 0 29 2 *"},
        {"schedule": "0 9 * * THU"},
        {"schedule": "0 9 * MAR FRI"},
        {"jitter_ms": 60_000},
    ],
)
def test_a_schedule_that_works_is_accepted(fields):
    check_schedule(definition(**fields))


def test_upcoming_refuses_what_it_cannot_answer():
    with pytest.raises(ScheduleError, match="aware"):
        upcoming("* * * * *", after=datetime(2026, 1, 1))
    with pytest.raises(ScheduleError, match="needs a task id"):
        upcoming("H * * * *")
    with pytest.raises(ScheduleError, match="@once"):
        upcoming("@once")


def test_upcoming_starts_now_without_an_instant():
    found = upcoming("* * * * * *", n=3)
    assert [later - earlier for earlier, later in pairwise(found)] == [timedelta(seconds=1)] * 2
    assert abs(found[0] - datetime.now(UTC)) < timedelta(minutes=1)


def test_hashed_fields_differ_between_tasks_and_not_between_calls():
    first = {str(index): upcoming("H H * * *", hash_id=str(index), after=from_ms(NOW), n=1) for index in range(50)}
    assert first["7"] == upcoming("H H * * *", hash_id="7", after=from_ms(NOW), n=1)
    assert len({str(found) for found in first.values()}) > 30
