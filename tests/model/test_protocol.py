"""The claim protocol holds in every state within these bounds, and in no smaller form.

SISY_MODEL_STEPS=100000 or more explores the wide bounds too: minutes.
"""

import os

import protocol
import pytest
from protocol import Bounds, explore

WITHIN = [
    Bounds(tasks=1, boots=2, claims=1, renewals=1),
    Bounds(tasks=1, boots=2, claims=1, renewals=0, creations=1),
    Bounds(tasks=1, boots=1, claims=2, renewals=1, creations=1),
    Bounds(tasks=2, boots=1, claims=2, renewals=1),
    Bounds(tasks=2, boots=3, claims=2, renewals=1, creations=1, depth=9),
]
WIDE = [Bounds(tasks=2, boots=2, claims=1, renewals=1)]
# The least in which the lack of a guard shows.
SHOWN_WITHIN = {
    protocol.BOOT_REFUSED_WHEN_DEAD: Bounds(tasks=1, boots=1, claims=1, renewals=0),
    protocol.SEQ_CHECKED: Bounds(tasks=1, boots=1, claims=1, renewals=0),
    protocol.DEAD_BEFORE_TAKING: Bounds(tasks=2, boots=1, claims=1, renewals=1),
    protocol.TOKEN_COMPARED: Bounds(tasks=1, boots=1, claims=2, renewals=0),
    protocol.GENERATION_COMPARED: Bounds(tasks=1, boots=1, claims=2, renewals=0, creations=1),
    protocol.ONE_CLAIM_AT_A_TIME: Bounds(tasks=1, boots=1, claims=2, renewals=0),
}
IS_LONG = int(os.environ.get("SISY_MODEL_STEPS", "0")) >= 100_000


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("bounds", WITHIN + (WIDE if IS_LONG else []), ids=str)
def test_no_state_within_the_bounds_breaks_an_invariant(bounds: Bounds) -> None:
    found = explore(bounds)
    print(f"{bounds}: {found.states} states, {found.depth} deep")
    assert not found.violation
    assert found.states > 5_000


@pytest.mark.parametrize("guard", protocol.GUARDS)
def test_every_guard_is_needed(guard: str) -> None:
    bounds = SHOWN_WITHIN[guard]
    assert not explore(bounds).violation
    found = explore(bounds, without=guard)
    print(f"without this: {guard}: {found.violation}, after {found.depth} steps, {found.states} states")
    assert found.violation
