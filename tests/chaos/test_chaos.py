"""Never lost, never doubled: a real fleet under every fault at once, and a checker that says whether the promises were kept.

SISY_TEST_CHAOS_SECONDS: how long the faults go on. SISY_TEST_CHAOS_SEED: which faults, in which order (how they meet the
fleet is the machine's doing). Timing decides nothing: only what the checker finds does.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from band import Band
from catalog import Kind, catalog
from checker import Verdict, check
from faults import Faults
from history import Clock, History, Periodic, read_journals
from ledger import Collector, dump
from server_clock import server_clock
from servers import Server
from waiting import poll
from wire import Wire
from world import World

from sisy_redis.keys import Partition

SECONDS = float(os.environ.get("SISY_TEST_CHAOS_SECONDS", "70"))
SEED = int(os.environ.get("SISY_TEST_CHAOS_SEED") or (1 if os.environ.get("CI") == "true" else time.time_ns() % 10**6))
# (lease, how wrong the wall clock is)
PLACES = ((2, 0), (2, 3600), (3, -3600), (3, 0), (2, 0))
PATIENCE = 240.0

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """Prints at once, also where pytest keeps output to itself."""
    began = time.monotonic()

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"  {time.monotonic() - began:6.1f} s  {text}", flush=True)

    with capsys.disabled():
        print(f"\nchaos: seed {SEED}, {SECONDS:g} s of faults (SISY_TEST_CHAOS_SEED, SISY_TEST_CHAOS_SECONDS)")
    yield line


def _settle(faults: Faults, partition: Partition, kinds: list[Kind]) -> int:
    """Waits until every schedule has come as far as the server's clock now is, and what had to end has ended."""
    world, server = faults.world, faults.server
    world.finish()
    now_ms = world.now_ms()
    ends = {kind.id for kind in kinds if kind.schedule is None or kind.fields.get("iterations")}
    wanted = {}
    for known in world.known:
        if not known.is_deleted and known.kind.id not in ends:
            schedule = known.epochs[-1].schedule
            assert isinstance(schedule, Periodic)
            after_ms = max(known.epochs[-1].by_ms, now_ms - schedule.step_ms)
            wanted[known.kind.id] = max(schedule.instants(after_ms, now_ms), default=0)

    def is_settled() -> bool:
        faults.undo()
        with server.client() as client:
            plans = {key.decode(): value.split(b" ") for key, value in client.hgetall(partition.key("plan")).items()}
        behind = [i for i, instant in wanted.items() if i not in plans or int(plans[i][2]) < instant]
        return not behind and not ends & plans.keys()

    poll(is_settled, PATIENCE, "every schedule goes on, and what had to end has ended")
    return now_ms


def _drain(world: World, server: Server, partition: Partition, workers: int) -> None:
    world.pause_all()

    def is_drained() -> bool:
        with server.client() as client:
            busy = client.hlen(partition.key("open")) or client.hlen(partition.key("waiting"))
            return not busy and client.hlen(partition.key("workers")) == workers

    poll(is_drained, PATIENCE, "no run is open, and every dead worker was reaped")
    world.delete_some()


def _report(say: Say, verdict: Verdict, faults: Faults, extra: Counter[str]) -> None:
    for title, counts in (
        ("faults", faults.counts + faults.wire.counts),
        ("users", faults.world.counts),
        ("ledger, runs", verdict.counts + extra),
    ):
        say(f"{title}: " + ", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
    say(f"violations: {len(verdict.violations)}")
    shown: Counter[str] = Counter()
    for violation in verdict.violations:
        shown[violation.promise] += 1
        if shown[violation.promise] <= 5:
            say(f"  {violation.promise}: {violation.what}")


@pytest.mark.timeout(SECONDS + 3 * PATIENCE)
def test_no_promise_is_broken_under_any_fault(
    server_factory: Callable[..., Server], namespace: str, tmp_path: Path, say: Say
) -> None:
    rng = random.Random(SEED)
    clock = server_clock(tmp_path)
    server = server_factory("--appendonly", "yes", "--appendfsync", "always", env=clock.env if clock else {})
    partition = Partition(namespace, 0)
    wire = Wire(server.port)
    journal = tmp_path / "journal"
    world = World(wire.url, server.url, namespace, str(journal), random.Random(rng.random()))
    collector = Collector(server, partition)
    kinds = catalog(rng, SECONDS)
    band = Band(wire.url, namespace, tmp_path, PLACES)
    try:
        faults = Faults(server, clock, wire, band, world, rng)
        collector.start()
        world.create(kinds)
        say(f"{len(kinds)} tasks, {len(band.workers)} workers")
        if clock is None:
            say("the server's clock is not stepped: that takes Linux and a C compiler")
        poll(
            lambda: journal.exists() and len(journal.read_bytes().splitlines()) > len(kinds), PATIENCE, "the fleet runs"
        )
        world.start()
        faults.rage(SECONDS, say)
        faults.calm()
        say("the faults are over")
        decided_until_ms = _settle(faults, partition, kinds)
        _drain(world, server, partition, len(band.workers))
        assert not band.dead()
        exits = band.stop()
        say("the fleet has drained")
        alive = world.alive()
        with server.client() as client:
            left = dump(client, partition)
        history = History(
            tasks=tuple(known.facts(decided_until_ms, alive) for known in world.known),
            attempts=read_journals([journal]),
            lines=collector.finish(),
            clock=Clock(tuple(faults.steps)),
            dump=left,
        )
        verdict = check(history)
        wrong = sum(shift != 0 for _, shift in PLACES)
        extra = Counter({"tasks": len(world.known), "workers": len(band.ever), "workers with a wrong clock": wrong})
        _report(say, verdict, faults, extra)
        assert verdict.violations == []
        assert not faults.missing()
        # One that was draining may have held the run that kills.
        assert set(exits) <= {0, -signal.SIGKILL}
        assert not left.get("workers")
    finally:
        band.end()
        world.close()
        wire.close()
