"""Random interleavings of everything that can be sent, on a real server, against a model with a manual clock.

SISY_MODEL_STEPS=100000 takes that many steps instead of a few thousand.
"""

import itertools
import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hands import Worker, check_beliefs
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lab import HOUR, LEASE, MINUTE, T0, Lab
from servers import plain_client
from snapshot import owner_of
from strategies import DAY, DEFINITIONS, PATHS, QUEUES, definition_at
from world import HEARD, LATE, LOST, Producer, World

from sisy_redis import calls, operations
from sisy_redis.definitions import Definition, Stored

STEPS_WANTED = int(os.environ.get("SISY_MODEL_STEPS", "8000"))
STEPS_EACH = 60
FATES = st.sampled_from([HEARD, HEARD, HEARD, HEARD, LOST, LATE])
INDEX = st.integers(0, 999)
TOTAL: Counter[str] = Counter()
_names = (f"model-{uuid.uuid4().hex[:8]}-{n}" for n in itertools.count(1))


class Machine(RuleBasedStateMachine):
    """Producers, workers, and an adversary between them and the server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.lab = Lab(url, plain_client(url), next(_names))
        self.world = World(self.lab)
        self.workers: list[Worker] = []
        self.producers: list[Producer] = []
        self.stored: list[Stored] = []
        self.is_ahead = False

    # --- producers ------------------------------------------------------------------------------------------------

    @initialize(fields=DEFINITIONS, others=DEFINITIONS)
    def begin(self, fields: dict[str, Any], others: dict[str, Any]) -> None:
        self.hire(QUEUES, (), HEARD)
        self.save(fields, 9, HEARD)
        self.save(others, 9, HEARD)

    @rule(fields=DEFINITIONS, batches=st.sampled_from([9, 9, 1, 2]), fate=FATES)
    def save(self, fields: dict[str, Any], batches: int, fate: str) -> None:
        wanted = definition_at(self.world.now, fields)
        self._begin(operations.save_all(self.world.space, [wanted]), batches, fate)

    @precondition(lambda self: self.stored)
    @rule(which=INDEX, fields=DEFINITIONS, batches=st.sampled_from([9, 9, 1, 2]), fate=FATES)
    def edit(self, which: int, fields: dict[str, Any], batches: int, fate: str) -> None:
        changed = {name for name in fields if name not in ("task_id", "path")}
        new = definition_at(self.world.now, fields)

        def change(current: Definition, _loaded: Definition) -> Definition:
            return replace(current, **{name: getattr(new, name) for name in changed})

        self._begin(operations.edit(self.world.space, self._some_stored(which), change), batches, fate)

    @precondition(lambda self: self.stored)
    @rule(
        which=INDEX,
        what=st.sampled_from(["delete", "pause", "resume", "resume", "trigger", "trigger", "counting"]),
        batches=st.sampled_from([9, 9, 1]),
        fate=FATES,
    )
    def operate(self, which: int, what: str, batches: int, fate: str) -> None:
        stored, space = self._some_stored(which), self.world.space
        steps: dict[str, Callable[[], Any]] = {
            "delete": lambda: operations.delete(space, stored),
            "pause": lambda: operations.pause(space, stored, "me", "why"),
            "resume": lambda: operations.resume(space, stored),
            "trigger": lambda: operations.trigger(space, stored),
            "counting": lambda: operations.trigger(space, stored, counts=True),
        }
        self._begin(steps[what](), batches, fate)

    @precondition(lambda self: self.world.state.runs)
    @rule(which=INDEX, fields=DEFINITIONS)
    def create_anew(self, which: int, fields: dict[str, Any]) -> None:
        """The id of a task with open runs is used again."""
        runs = sorted(self.world.state.runs)
        task_id, _ = owner_of(runs[which % len(runs)])
        if task_id in self.world.state.tasks:
            self._begin(operations.delete(self.world.space, self.world.state.tasks[task_id]), 9, HEARD)
        self.save(fields | {"task_id": task_id}, 9, HEARD)
        self.work(which, "ok")

    @precondition(lambda self: self.producers)
    @rule(which=INDEX, batches=st.sampled_from([9, 1]), fate=FATES)
    def go_on(self, which: int, batches: int, fate: str) -> None:
        self._drive(self.producers.pop(which % len(self.producers)), batches, fate)

    def _begin(self, steps: Any, batches: int, fate: str) -> None:
        self._drive(Producer(steps), batches, fate)

    def _drive(self, producer: Producer, batches: int, fate: str) -> None:
        for _ in range(batches):
            if producer.go_on(self.world, fate):
                found = producer.result if isinstance(producer.result, list) else [producer.result]
                self.stored += [one for one in found if isinstance(one, Stored)]
                return
        self.producers.append(producer)

    def _some_stored(self, which: int) -> Stored:
        """Mostly the present tasks, sometimes one as it was long ago."""
        present = [self.world.state.tasks[i] for i in sorted(self.world.state.tasks)]
        known = self.stored if which % 4 == 3 or not present else present
        return known[which // 4 % len(known)]

    # --- workers --------------------------------------------------------------------------------------------------

    @rule(
        queues=st.sampled_from([QUEUES, ("default",), ("other",)]), refused=st.sampled_from([(), PATHS[1:]]), fate=FATES
    )
    def hire(self, queues: tuple[str, ...], refused: tuple[str, ...], fate: str) -> None:
        if sum(worker.trusts(self.world) for worker in self.workers) >= 4:
            return
        name = f"host:{len(self.workers)}"
        call = calls.register(self.lab.partition, self.lab.op(), LEASE, queues, name)
        self.workers.append(Worker(name, queues, refused, call))
        self.workers[-1].sign_on(self.world, fate)

    @rule(which=INDEX, slots=st.sampled_from([1, 2, 10]), fate=FATES)
    def claim(self, which: int, slots: int, fate: str) -> None:
        if worker := self._worker(which):
            worker.ask(self.world, slots, fate)

    @precondition(lambda self: self._any(lambda one: one.plans or one.lows))
    @rule(which=INDEX, fate=FATES)
    def plan(self, which: int, fate: str) -> None:
        if worker := self._worker(which, lambda one: one.plans or one.lows):
            worker.plan(self.world, fate)

    @precondition(lambda self: self._any(lambda one: one.held))
    @rule(
        which=INDEX,
        action=st.sampled_from(["ok", "failed", "timeout", "cancelled", "retry", "release", "unroutable"]),
        delay_ms=st.sampled_from([0, 1_000, MINUTE]),
        fate=FATES,
    )
    def finish(self, which: int, action: str, delay_ms: int, fate: str) -> None:
        if worker := self._worker(which, lambda one: one.held):
            worker.finish(sorted(worker.held)[which // 7 % len(worker.held)], action, delay_ms)
            if fate != LATE:
                worker.settle(self.world, fate)

    @precondition(lambda self: self._any(lambda one: one.endings))
    @rule(which=INDEX, fate=FATES)
    def settle(self, which: int, fate: str) -> None:
        if worker := self._worker(which, lambda one: one.endings):
            worker.settle(self.world, fate)

    @rule(which=INDEX, fate=FATES)
    def renew(self, which: int, fate: str) -> None:
        if worker := self._worker(which):
            worker.renew(self.world, fate)

    @precondition(lambda self: self._any(lambda one: one.expired))
    @rule(which=INDEX, fate=FATES)
    def reap(self, which: int, fate: str) -> None:
        if worker := self._worker(which, lambda one: one.expired):
            worker.reap(self.world, fate)

    @rule(which=INDEX)
    def crash(self, which: int) -> None:
        if worker := self._worker(which):
            worker.give_up()

    @rule(which=INDEX, fate=FATES)
    def leave(self, which: int, fate: str) -> None:
        if worker := self._worker(which):
            worker.leave(self.world, fate)

    @rule(which=INDEX, action=st.sampled_from(["ok", "ok", "retry", ""]))
    def work(self, which: int, action: str) -> None:
        """A tick of a healthy worker."""
        if worker := self._worker(which):
            worker.ask(self.world, 10, HEARD)
            worker.plan(self.world, HEARD)
            for run_id in sorted(worker.held) if action else ():
                worker.finish(run_id, action, 0)
            if worker.is_up:
                worker.settle(self.world, HEARD)

    def _any(self, where: Callable[[Worker], object]) -> bool:
        return any(worker.is_up and where(worker) for worker in self.workers)

    def _worker(self, which: int, where: Callable[[Worker], object] = bool) -> Worker | None:
        """One that is up, registered and ``where``, a new one where none is up. It notices first that its lease ended."""
        for worker in self.workers:
            if worker.is_up and not worker.boot:
                worker.sign_on(self.world, HEARD)
            if worker.is_up and not worker.trusts(self.world):
                worker.give_up()
        if not any(worker.is_up for worker in self.workers):
            self.hire(QUEUES, (), HEARD)
        able = [worker for worker in self.workers if worker.is_up and where(worker)]
        return able[which % len(able)] if able else None

    # --- time and the network -------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1_000, 1_000, 7_000, LEASE, MINUTE, MINUTE + 1, 5 * MINUTE, HOUR, DAY, 3 * DAY]))
    def advance(self, ms: int) -> None:
        self.world.passed += ms
        self.world.now += ms

    @rule(which=INDEX, action=st.sampled_from(["ok", "ok", "failed", "retry", ""]))
    def wait_for_what_is_due(self, which: int, action: str) -> None:
        """Time goes by to the next instant; healthy workers renew on the way, and one does what is due."""
        places = [rows for kind, rows in self.world.state.dump.items() if kind.startswith(("due:", "waiting:"))]
        ahead = [at - self.world.now for rows in places for at in rows.values() if self.world.now < at < float("inf")]
        ms = int(min(ahead, default=0))
        if 0 < ms <= MINUTE:
            self.pass_in_health(-(-ms // (LEASE // 3)), ms)
        else:
            self.advance(ms)
        self.work(which, action)

    @rule(rounds=st.sampled_from([1, 3, 9]))
    def pass_a_while(self, rounds: int) -> None:
        self.pass_in_health(rounds, rounds * LEASE // 3)

    def pass_in_health(self, rounds: int, ms: int) -> None:
        """Whoever is up renews as often as it should, and reaps whom it hears to be dead."""
        for _ in range(rounds):
            self.advance(-(-ms // rounds))
            for index in range(len(self.workers)):
                if self.workers[index].trusts(self.world):
                    self.workers[index].renew(self.world, HEARD)
                    self.workers[index].reap(self.world, HEARD)
                    check_beliefs(self.world, self.workers)

    @rule(ms=st.sampled_from([-HOUR, -30_000, -700, 30_000, HOUR]))
    def step_clock(self, ms: int) -> None:
        """The server's clock is wrong by an hour at most, and only either way within one history."""
        offset = self.world.now + ms - T0 - self.world.passed
        self.is_ahead = self.is_ahead or offset > MINUTE
        if (0 if self.is_ahead else -HOUR) <= offset + 2_000 <= HOUR + 4_000:
            self.world.now += ms

    @rule(ms=st.sampled_from([30_000, HOUR]), action=st.sampled_from(["", "ok"]))
    def step_clock_under_load(self, ms: int, action: str) -> None:
        """Runs are held while the clock steps; whoever renews first must not take them for a dead worker's."""
        self.wait_for_what_is_due(0, "")
        self.hire(QUEUES, (), HEARD)
        self.step_clock(ms)
        self.pass_in_health(2, 2 * LEASE // 3)
        self.work(1, action)

    @precondition(lambda self: self.world.late)
    @rule(which=INDEX)
    def arrive_late(self, which: int) -> None:
        self.world.arrive(self.world.late.pop(which % len(self.world.late)))

    @precondition(lambda self: self.world.sent)
    @rule(which=INDEX, count=st.integers(1, 5))
    def arrive_again(self, which: int, count: int) -> None:
        for n in range(count):
            self.world.arrive(self.world.sent[(which + n) % len(self.world.sent)])

    @invariant()
    def no_two_workers_run_the_same(self) -> None:
        check_beliefs(self.world, self.workers)

    # --- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        TOTAL.update(self.world.counts)
        try:
            self._come_to_rest()
        finally:
            names = self.lab.client.keys(f"*{{{self.lab.namespace}*")
            if names:
                self.lab.client.unlink(*names)
            self.lab.close()
            self.lab.client.close()

    def _come_to_rest(self) -> None:
        """Whatever happened, one healthy worker ends every run and empties the schedule; then nothing is left."""
        world = self.world
        world.now = max(world.now, world.latest)
        self.advance(4 * LEASE)
        last = Worker("last:1", QUEUES, (), calls.register(self.lab.partition, self.lab.op(), LEASE, QUEUES, "last:1"))
        last.sign_on(world, HEARD)
        last.renew(world, HEARD)
        for _ in range(12):
            if set(world.state.boots) == {last.boot}:
                break
            self.advance(LEASE // 3)
            last.renew(world, HEARD)
            last.reap(world, HEARD)
        assert set(world.state.boots) == {last.boot}, "a dead worker was not reaped"
        for task_id in sorted(world.state.tasks):
            world.arrive(calls.resume(self.lab.partition, self.lab.op(), world.state.tasks[task_id]))
        for _ in range(60):
            last.ask(world, 100, HEARD)
            last.plan(world, HEARD)
            for run_id in sorted(last.held):
                last.finish(run_id, "ok", 0)
            last.settle(world, HEARD)
            if not world.state.runs:
                break
            self.advance(2_000)
            last.renew(world, HEARD)
        assert not world.state.runs, "a run is open for ever"
        assert set(world.runs.ever) == set(world.runs.ended), "a run was admitted and never ended"
        for task_id, stored in sorted(world.state.tasks.items()):
            assert world.arrive(calls.delete(self.lab.partition, self.lab.op(), stored)) == "deleted", task_id
        world.arrive(calls.leave(self.lab.partition, last.boot))
        left = set(world.state.dump) - {
            "meta",
            "history",
            "reports",
            "replies",
            "reply_times",
            "wake",
            "dead",
            "dead_times",
        }
        assert not left, f"{left} outlived everything"


@pytest.mark.timeout(120 + STEPS_WANTED // 20)
def test_nothing_is_lost_or_doubled_whatever_arrives_in_whatever_order(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(redis_url),
        settings=hypothesis.settings(
            max_examples=max(1, STEPS_WANTED // STEPS_EACH),
            stateful_step_count=STEPS_EACH,
            suppress_health_check=list(hypothesis.HealthCheck),
            report_multiple_bugs=False,
        ),
    )
    print(f"calls sent: {dict(sorted(TOTAL.items()))}, {sum(TOTAL.values())} in all")
