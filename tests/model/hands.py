"""Workers as the model moves them: what each believes of its lease, its attempts, and the answers it is waiting for."""

from dataclasses import dataclass, field, replace
from typing import Any

from lab import LEASE
from snapshot import owner_of
from world import World

from sisy_redis import calls, planning
from sisy_redis.calls import Call, Claimed, Expired, PlanState, Settlement
from sisy_redis.definitions import Attempt, Plan

MARGIN = 1_000


@dataclass
class Worker:
    """One process. ``held`` is what it runs; ``endings`` is what ended and was not settled yet."""

    name: str
    queues: tuple[str, ...]
    refused: tuple[str, ...]
    register: Call[Any]
    boot: str = ""
    seq: int = 0
    claim: Call[Claimed] | None = None
    trusted_until: int = -1
    asked_at: int = -1
    is_up: bool = True
    held: dict[str, Attempt] = field(default_factory=dict)
    endings: list[Settlement] = field(default_factory=list)
    plans: list[tuple[int, PlanState]] = field(default_factory=list)
    lows: list[PlanState] = field(default_factory=list)
    expired: list[Expired] = field(default_factory=list)

    def trusts(self, world: World) -> bool:
        """It may believe in its lease, by its own clock."""
        return self.is_up and bool(self.boot) and world.passed < self.trusted_until

    def sign_on(self, world: World, fate: str) -> None:
        """Registers; the same call again until it is answered. The lease counts from when it was first asked for."""
        self.asked_at = world.passed if self.asked_at < 0 else self.asked_at
        answer = world.send(self.register, fate)
        if answer is not None and answer.boot is None:
            self.is_up = False
        elif answer is not None:
            self.boot, self.trusted_until = answer.boot, self.asked_at + LEASE - MARGIN

    def give_up(self) -> None:
        """Its lease ended: it drops everything."""
        self.is_up = False
        self.held.clear()
        self.endings.clear()

    def ask(self, world: World, slots: int, fate: str) -> None:
        """Claims; the same call again until it is answered."""
        if self.claim is None:
            p = world.lab.partition
            self.claim = calls.claim(p, self.boot, self.seq + 1, slots, self.queues, self.refused)
        answer = world.send(self.claim, fate)
        if answer is None:
            return
        if answer.status != "ok":
            self.give_up()
            return
        self.seq, self.claim = self.seq + 1, None
        for attempt in answer.attempts:
            self.held[attempt.run_id] = attempt
        self.plans += [(answer.now_ms, state) for state in answer.replans]
        self.lows += answer.lows
        for run_id in [run_id for run_id, attempt in self.held.items() if attempt.losses]:
            call = calls.start(world.lab.partition, self.boot, run_id, self.held[run_id].token)
            if fate == "heard" and not world.send(call):
                del self.held[run_id]

    def plan(self, world: World, fate: str) -> None:
        """Plans what the claims asked for, as the worker's planner does."""
        p = world.lab.partition
        for now_ms, state in self.plans:
            found = planning.replan(state.stored.definition, state.cursor_ms, now_ms, state.admitted_ms)
            world.send(calls.replan(p, state, found.dropped, found.plan), fate)
        for state in self.lows:
            end = _last(state.plan)
            more = planning.plan(state.stored.definition, end)
            if more.segments or more.complete:
                world.send(calls.extend(p, [(state, end, more)]), fate)
        self.plans, self.lows = [], []

    def finish(self, run_id: str, action: str, delay_ms: int) -> None:
        """An attempt ended here; it is settled with the next call."""
        attempt = self.held.pop(run_id)
        text = f"{attempt.stored.definition.callable.path} is not here" if action == "unroutable" else ""
        self.endings.append(Settlement(run_id, attempt.token, action, attempt.queue, delay_ms, text=text))

    def settle(self, world: World, fate: str) -> None:
        """Sends what ended, again until it is answered."""
        if not self.endings:
            return
        batch, p = list(self.endings), world.lab.partition
        answers = world.send(calls.settle(p, self.boot, self.name, batch), fate)
        if answers is None:
            return
        self.endings = [
            replace(end, queue=answer.partition(" ")[2])
            for end, answer in zip(batch, answers, strict=True)
            if answer.startswith("elsewhere")
        ]

    def renew(self, world: World, fate: str) -> None:
        """Prolongs its lease; it counts from when it asked."""
        answer = world.send(calls.renew(world.lab.partition, self.boot), fate)
        if answer is None:
            return
        if answer.is_refused:
            self.give_up()
            return
        self.trusted_until = max(self.trusted_until, world.passed + LEASE - MARGIN)
        self.expired = list(answer.expired)

    def reap(self, world: World, fate: str) -> None:
        """Takes back the attempts of the boots that it heard to be dead."""
        for dead in self.expired:
            for _ in range(5):
                answer = world.send(calls.reap(world.lab.partition, dead), fate)
                if answer is None or not answer.missing:
                    break
                dead = replace(dead, queues=",".join(sorted({*dead.queues.split(","), *answer.missing} - {""})))
        self.expired = []

    def leave(self, world: World, fate: str) -> None:
        """Gives up its boot, and whatever it still holds."""
        self.give_up()
        world.send(calls.leave(world.lab.partition, self.boot), fate)


def check_beliefs(world: World, workers: list[Worker]) -> None:
    """What a worker that trusts its lease believes to run is its own, so no other runs the same."""
    seen: dict[str, str] = {}
    for worker in workers:
        if not worker.trusts(world):
            continue
        for run_id, attempt in worker.held.items():
            assert run_id not in seen, f"{run_id} runs on {seen[run_id]} and on {worker.name}"
            seen[run_id] = worker.name
            run = world.state.runs.get(run_id)
            assert run is not None and (run.place, run.token) == (worker.boot, attempt.token), (
                f"{worker.name} trusts its lease of {run_id}, which is {run}"
            )
            assert owner_of(run_id)[0] == attempt.stored.definition.id


def _last(plan: Plan) -> int:
    last = plan.segments[-1]
    return last.first_ms + last.step_ms * ((last.count or 1) - 1)
