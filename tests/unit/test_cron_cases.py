"""The reference cases, and cases for what they leave out."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sisy_redis.planning import upcoming

DATA = Path(__file__).parent.parent / "data"
FILES = ("cron_cases.json", "cron_cases_more.json")
CASES = [case for name in FILES for case in json.loads((DATA / name).read_text())["cases"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['expr']} {case['tz']}")
def test_the_next_three_instants_are_those_of_the_reference(case):
    after = datetime.fromisoformat(case["after"])
    found = upcoming(case["expr"], case["tz"], after, 3, hash_id=case.get("hash_id"))
    # In UTC: Python calls a time in a repeated hour unequal to every time of another zone.
    assert [instant.astimezone(UTC) for instant in found] == [datetime.fromisoformat(text) for text in case["next"]]
    assert all(str(instant.tzinfo) == case["tz"] for instant in found)
