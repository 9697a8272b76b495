"""What a call may do to tasks: their occurrences are each decided once, their iterations are exact, their cursors rise."""

from dataclasses import dataclass, field

from snapshot import Line, Snapshot, instants, is_scheduled, owner_of

from sisy_redis.calls import PlanState
from sisy_redis.definitions import Overlap, Stored
from sisy_redis.planning import jitter_ms

_OF_A_TASK = ("tasks", "plan", "open", "remaining", "last", "paused", "unroutable")


@dataclass
class TasksModel:
    """After which instant each generation was planned last, and how many iterations it must have left."""

    planned_after_ms: dict[int, int] = field(default_factory=dict)
    left: dict[int, int | None] = field(default_factory=dict)

    def observe(self, name: str, before: Snapshot, after: Snapshot, lines: list[Line], now: int) -> None:
        """Raises AssertionError unless the call did to tasks what it should have."""
        for task_id in before.tasks.keys() | after.tasks.keys():
            old, new = before.tasks.get(task_id), after.tasks.get(task_id)
            if old is None or new is None or old.generation != new.generation:
                if old is not None:
                    self._left(name, old, before, after, lines, now)
                if new is not None:
                    self._created(name, new, before, now)
            else:
                self._stayed(name, old, new, before, after, lines, now)
        if name in ("settle", "reap"):
            _check_isolation(before, after)
        assert after.meta("sequence") >= before.meta("sequence")
        assert not after.column("quarantine"), "nothing was stored that cannot be read"

    def _created(self, name: str, new: Stored, before: Snapshot, now: int) -> None:
        assert name == "save", f"{name} created a task"
        assert new.generation not in self.left
        assert new.generation > before.meta("sequence")
        self.planned_after_ms[new.generation] = now
        self.left[new.generation] = new.definition.iterations or None

    def _left(self, name: str, old: Stored, before: Snapshot, after: Snapshot, lines: list[Line], now: int) -> None:
        task_id = old.definition.id
        (line,) = [x for x in lines if x.kind == "ended" and x.subject == task_id and x.generation == old.generation]
        assert (line.what == "deleted") == (name == "delete")
        if line.what == "deleted":
            return
        assert not after.open_runs(task_id, old.generation), "a task stays until its last run has ended"
        if line.what == "iterations":
            return
        plan = before.plans[task_id].plan
        is_over = plan.complete and not plan.segments
        if name in ("claim", "save") and not is_over and self.left[old.generation] != 0:
            self._decided(old, before, after, lines, now, now)

    def _stayed(
        self, name: str, old: Stored, new: Stored, before: Snapshot, after: Snapshot, lines: list[Line], now: int
    ) -> None:
        task_id, generation = old.definition.id, old.generation
        is_saved = new.version != old.version
        assert not is_saved or (name == "save" and new.version > before.meta("sequence"))
        assert is_saved or old == new
        admitted = _admitted(before, after, task_id, generation)
        self._count_iterations(name, old, new, before, after, len(admitted))
        assert after.remaining.get(task_id) == self.left[generation], "iterations are exact"
        for nominal in admitted:
            self._may_admit(old, before, nominal, now)
        fresh = after.open_runs(task_id, generation) - before.open_runs(task_id, generation)
        if fresh and old.definition.overlap is Overlap.SKIP:
            assert len(fresh) == 1, "two runs of a task that forbids overlap"
            assert not before.open_runs(task_id, generation), "a second open run of a task that forbids overlap"
        skips = [x for x in lines if x.kind == "skip" and x.subject == task_id and x.generation == generation]
        if any(x.what == "overlap" for x in skips):
            assert old.definition.overlap is Overlap.SKIP
            assert before.open_runs(task_id, generation)
        plan_old, plan_new = before.plans[task_id], after.plans[task_id]
        assert plan_new.cursor_ms >= plan_old.cursor_ms, "a cursor fell"
        is_exhausted = plan_old.plan.complete and not plan_old.plan.segments
        if not is_exhausted:
            self._decided(old, before, after, lines, plan_new.cursor_ms, now)
        _check_plan(new, plan_new)
        if plan_new.version != plan_old.version:
            self.planned_after_ms[generation] = max(now, plan_old.cursor_ms)
        elif name == "replan":
            self.planned_after_ms[generation] = 0

    def _count_iterations(
        self, name: str, old: Stored, new: Stored, before: Snapshot, after: Snapshot, admitted: int
    ) -> None:
        generation, left = old.generation, self.left[old.generation]
        total, changed = old.definition.iterations, new.definition.iterations
        if total != changed:
            left = max(0, (total if left is None else left) + changed - total) if changed else None
        if left is not None:
            left -= admitted
            assert left >= 0, "more runs than iterations"
            task_id = old.definition.id
            if name == "trigger" and before.remaining.get(task_id) != after.remaining.get(task_id):
                # Whether a trigger counts is its caller's choice; that it takes one at most is not.
                left -= 1
        self.left[generation] = left

    def _may_admit(self, old: Stored, before: Snapshot, nominal: int, now: int) -> None:
        definition = old.definition
        assert not before.holds(definition.id), "a held task was admitted"
        assert nominal + jitter_ms(definition.id, nominal, definition.jitter_ms) <= now, "admitted early"

    def _decided(
        self, old: Stored, before: Snapshot, after: Snapshot, lines: list[Line], cursor_ms: int, now: int
    ) -> None:
        """Each instant between the old and the new cursor became a run, or lies in one range with a reason."""
        definition, generation = old.definition, old.generation
        plan_old, plan_new = before.plans[definition.id], after.plans.get(definition.id)
        low = max(plan_old.cursor_ms, self.planned_after_ms[generation])
        beside = beside_of(plan_old)
        passed = instants(definition, low, cursor_ms)
        runs = _admitted(before, after, definition.id, generation)
        skips = [x for x in lines if x.kind == "skip" and x.subject == definition.id and x.generation == generation]
        total = sum(nominal in passed for nominal in runs)
        is_beside_decided = beside in runs
        for skip in skips:
            inside = instants(definition, max(low, skip.first_ms - 1), min(cursor_ms, skip.last_ms))
            total += len(inside)
            has_beside = beside is not None and skip.first_ms <= beside <= skip.last_ms
            assert not (has_beside and is_beside_decided), "the instant beside the schedule was decided twice"
            is_beside_decided = is_beside_decided or has_beside
            extra = has_beside and beside not in inside
            assert not skip.count or skip.count == len(inside) + extra, f"{skip} covers {len(inside)} of {passed}"
            assert skip.first_ms > plan_old.cursor_ms or has_beside, f"{skip} decides again what was decided"
            assert not any(skip.first_ms <= nominal <= skip.last_ms for nominal in runs), f"{skip} covers a run"
        ranges = sorted((x.first_ms, x.last_ms) for x in skips)
        assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:], strict=False)), f"{ranges} overlap"
        # An instant of the schedule that is the one beside it waits as that.
        total += beside in passed and not is_beside_decided
        assert total == len(passed), (
            f"{total} of {len(passed)} instants in {passed} were decided, by {runs} and {skips}"
        )
        assert all(nominal in passed or nominal == beside for nominal in runs), (
            f"{runs} are not of the schedule: {passed}, {beside}, {plan_old.column!r} to {after.column('plan')}"
        )
        if plan_new and beside is not None:
            assert not (is_beside_decided and beside_of(plan_new) == beside), "decided, and still to come"
            is_dropped = beside_of(plan_new) is None and beside <= now and self.left[generation] != 0
            assert is_beside_decided or not is_dropped, (
                f"beside was lost: {beside} {old} {plan_old.column!r} {plan_new.column!r} {skips} {now}"
            )


def beside_of(state: PlanState) -> int | None:
    """The instant beside the schedule that is undecided."""
    return state.plan.segments[0].first_ms if state.plan.has_beside else None


def _admitted(before: Snapshot, after: Snapshot, task_id: str, generation: int) -> list[int]:
    fresh = after.open_runs(task_id, generation) - before.open_runs(task_id, generation)
    return sorted(int(run_id.rsplit(":", 1)[1]) for run_id in fresh if is_scheduled(run_id))


def _check_plan(stored: Stored, state: PlanState) -> None:
    """A plan has the next instants of the schedule, all of them and in order."""
    segments = state.plan.segments[1:] if state.plan.has_beside else state.plan.segments
    at = state.cursor_ms
    for segment in segments[:20]:
        assert segment.first_ms > at, f"a plan that is not in order: {state.plan}"
        wanted = instants(stored.definition, segment.first_ms - 1, segment.first_ms)
        assert wanted, f"{segment.first_ms} is no instant of {stored}, {state.column!r}"
        at = segment.first_ms + segment.step_ms * ((segment.count or 1) - 1)


def _check_isolation(before: Snapshot, after: Snapshot) -> None:
    """The end of a run touches the columns of its own generation only."""
    touched = {
        task_id.decode()
        for kind in _OF_A_TASK
        for task_id in before.column(kind).keys() | after.column(kind).keys()
        if before.column(kind).get(task_id) != after.column(kind).get(task_id)
    }
    changed = {owner_of(run_id) for run_id, run in before.runs.items() if after.runs.get(run_id) != run}
    for task_id in touched:
        assert (task_id, before.tasks[task_id].generation) in changed, f"{task_id} was touched by another's run"
