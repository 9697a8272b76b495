"""What a call may do to runs: a model of their life that is told every call, and compares what is stored with it."""

from dataclasses import dataclass, field, replace

from snapshot import WAITING, Line, Run, Snapshot, is_scheduled, owner_of

from sisy_redis.calls import Call

TERMINAL = {"ok", "failed", "timeout", "cancelled", "lost"}
GIVEN_BACK = {"retry", "release", "unroutable"}


# How many arguments a settlement has.
SETTLEMENT = 9


@dataclass
class RunsModel:
    """Every run there has ever been, and how it ended."""

    ever: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)

    def observe(self, call: Call[object], answer: object, before: Snapshot, after: Snapshot, lines: list[Line]) -> None:
        """Raises AssertionError unless the call did to runs what it should have."""
        name = call.script.name if call.script else ""
        expected = dict(before.runs)
        if name == "settle":
            self._settle(call, answer, before, expected)
        elif name == "reap":
            self._reap(call, before, after, expected)
        elif name == "claim":
            self._claim(call, before, after, expected)
        elif name == "start":
            run_id, token = _args(call)
            run = before.runs.get(run_id)
            if run and run.place == boot_of(call) and run.token == int(token):
                expected[run_id] = replace(run, is_started=True)
        elif name == "trigger":
            for run_id in after.runs.keys() - before.runs.keys():
                assert not is_scheduled(run_id)
                expected[run_id] = replace(after.runs[run_id], place=WAITING, number=1, losses=0)
        elif name == "move":
            for run_id in _args(call)[:1]:
                if run_id in after.runs and run_id in expected:
                    expected[run_id] = replace(expected[run_id], queue=after.runs[run_id].queue)
        assert after.runs == expected, f"{name}: runs are {after.runs}, the model says {expected}"
        self._endings(before, after, lines)

    def _endings(self, before: Snapshot, after: Snapshot, lines: list[Line]) -> None:
        appeared, vanished = after.runs.keys() - before.runs.keys(), before.runs.keys() - after.runs.keys()
        assert not appeared & self.ever, f"admitted twice: {appeared & self.ever}"
        self.ever |= appeared
        endings = [line for line in lines if line.kind == "run" and line.what in TERMINAL]
        assert sorted(line.subject for line in endings) == sorted(vanished), "each run that ends has one line"
        for line in endings:
            assert line.subject not in self.ended, f"{line.subject} ended twice"
            self.ended[line.subject] = line.what
        assert not appeared & self.ended.keys()

    def _settle(self, call: Call[object], answer: object, before: Snapshot, expected: dict[str, Run]) -> None:
        boot, (_worker, queues, *flat) = boot_of(call), _args(call)
        wanted = []
        for i in range(0, len(flat), SETTLEMENT):
            run_id, token, action, *_ = flat[i : i + SETTLEMENT]
            run = expected.get(run_id)
            stored = before.tasks.get(owner_of(run_id)[0])
            is_orphan = stored is None or stored.generation != owner_of(run_id)[1]
            if run is None or run.place != boot or run.token != int(token):
                wanted.append("stale")
            elif is_orphan or action not in GIVEN_BACK:
                wanted.append("settled")
                del expected[run_id]
            elif stored.definition.queue not in queues.split(","):
                wanted.append(f"elsewhere {stored.definition.queue}")
            else:
                wanted.append("settled")
                number = run.number + (action == "retry")
                expected[run_id] = Run(WAITING, number, run.losses, run.nominal_ms, stored.definition.queue)
        assert answer == wanted

    def _reap(self, call: Call[object], before: Snapshot, after: Snapshot, expected: dict[str, Run]) -> None:
        boot, _queues = _args(call)
        known = before.boots.get(boot)
        now = int(call.args[0])
        if known is None or (known.is_up and (known.lease_until_ms > now or now < before.meta("quiet_until"))):
            return
        served = {key.rpartition(":")[2] for key in call.keys if ":waiting:" in key}
        for run_id, run in before.runs.items():
            stored = before.tasks.get(owner_of(run_id)[0])
            if run.place != boot or (stored.definition.queue if stored else run.queue) not in served:
                continue
            del expected[run_id]
            is_counted = run.losses == 0 or run.is_started
            losses = run.losses + is_counted
            if stored and stored.generation == owner_of(run_id)[1] and losses <= stored.definition.max_redeliveries:
                number = run.number + is_counted
                expected[run_id] = Run(WAITING, number, losses, run.nominal_ms, stored.definition.queue)

    def _claim(self, call: Call[object], before: Snapshot, after: Snapshot, expected: dict[str, Run]) -> None:
        boot, seq, slots, queues, _channel, *_refused = _args(call)
        known = before.boots.get(boot)
        if known is None or not known.is_up or known.seq + 1 != int(seq):
            assert after.dump == before.dump, "a claim that is refused or repeated changes nothing"
            return
        granted = {run_id: run for run_id, run in after.runs.items() if before.runs.get(run_id) != run}
        assert len(granted) <= int(slots)
        tokens = {run.token for run in granted.values()}
        assert len(tokens) == len(granted)
        assert not tokens or min(tokens) > before.meta("sequence"), "every token is new, and higher than any before"
        for run_id, run in granted.items():
            old = before.runs.get(run_id)
            assert run.place == boot
            assert run.queue in queues.split(",")
            if old is None:
                assert is_scheduled(run_id)
                expected[run_id] = replace(run, number=1, losses=0, is_started=False, seq=int(seq))
            else:
                assert old.place == WAITING, "claim takes nothing from another worker"
                expected[run_id] = replace(old, place=boot, token=run.token, seq=int(seq), queue=run.queue)
        for run_id in before.runs.keys() - after.runs.keys():
            task_id, generation = owner_of(run_id)
            stored = before.tasks.get(task_id)
            assert stored is None or stored.generation != generation, "claim ends only the runs of tasks that are gone"
            assert before.runs[run_id].place == WAITING
            del expected[run_id]


def boot_of(call: Call[object]) -> str:
    """The boot whose attempts a call is about."""
    return next(key.rpartition(":")[2] for key in call.keys if ":live:" in key)


def _args(call: Call[object]) -> list[str]:
    assert call.script is not None
    skipped = call.script.args.names[:1] == ("now_ms",)
    return [str(arg) for arg in call.args[skipped:]]
