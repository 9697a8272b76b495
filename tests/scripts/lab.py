"""Sends calls at an injected instant, each twice, and compares everything stored before and after the repetition."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import redis

from sisy_redis import calls, queries
from sisy_redis.calls import Call, Claimed, Save, Saved, Settlement
from sisy_redis.definitions import Attempt, CallableRef, Definition, Plan, Segment, Stored
from sisy_redis.keys import Partition, Space, task_id_of
from sisy_redis.queries import HistoryEntry, TaskState
from sisy_redis.transport import Transport

T = TypeVar("T")
T0 = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
LEASE = 15_000


def task(task_id: str = "a", **fields: Any) -> Definition:
    """A definition; the scripts never look at its schedule, so most tests leave it alone."""
    path = fields.pop("path", "app.tasks.work")
    module, _, name = path.rpartition(".")
    ref = CallableRef(path=path, module_name=module, func_name=name)
    return Definition(**({"id": task_id, "label": task_id, "callable": ref} | fields))


def at(*instants: int, complete: bool = True) -> Plan:
    """A plan of single instants."""
    return Plan(tuple(Segment(instant, 0, 1) for instant in instants), complete)


def every(step: int = MINUTE, first: int = T0 + MINUTE, count: int | None = None, *, complete: bool = False) -> Plan:
    """A plan of one segment, without an end unless ``count`` is given."""
    return Plan((Segment(first, step, count),), complete)


class Lab:
    """One namespace. ``now`` is the instant every script is told, ``client`` looks at what is stored."""

    def __init__(self, url: str, client: "redis.Redis", namespace: str) -> None:
        self.now = T0
        self.namespace = namespace
        self.url = url
        self.transport = Transport(url)
        self.client = client
        self.is_checked = True
        self.sent_twice: set[str] = set()
        self._ops = 0

    def close(self) -> None:
        self.transport.close()

    @property
    def space(self) -> Space:
        return Space(self.namespace, 1, self.now)

    @property
    def partition(self) -> Partition:
        return self.space.partition(0)

    def op(self, made: int | None = None) -> str:
        """A new operation id."""
        self._ops += 1
        return f"{self.now if made is None else made}-{self._ops:04}"

    def once(self, call: Call[T]) -> T:
        """Sends the call and returns its answer."""
        (answer,) = self.transport.execute([call])
        if self.is_checked:
            check(self.dump())
        return answer

    def send(self, call: Call[T]) -> T:
        """Sends the call twice, byte for byte; the second changes nothing. Returns the first answer."""
        return self.both(call)[0]

    def both(self, call: Call[T]) -> tuple[T, T]:
        """Sends the call twice; the second changes nothing. Returns both answers."""
        first = self.once(call)
        before = self.dump()
        second = self.once(call)
        assert self.dump() == before, (
            f"{call.script.name if call.script else call.args} changed something when repeated"
        )
        if call.script:
            self.sent_twice.add(call.script.name)
        return first, second

    def dump(self) -> dict[str, Any]:
        """Everything stored in the namespace, comparable."""
        names = sorted(self.client.keys(f"*{{{self.namespace}*"))
        with self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.type(name)
            kinds = pipe.execute()
            for name, kind in zip(names, kinds, strict=True):
                _read(pipe, name, kind)
            contents = pipe.execute()
        return {
            name.decode().rpartition("}:")[2]: dict(content) if kind == b"zset" else content
            for name, kind, content in zip(names, kinds, contents, strict=True)
        }

    # --- tasks ---

    def save_of(self, definition: Definition, plan: Plan | None, base: Stored | None = None, **fields: Any) -> Save:
        given = {"op": self.op(), "planned_from_ms": self.now} | fields
        return Save(definition=definition, base=base, plan=plan, **given)

    def put(self, *saves: Save) -> list[Saved]:
        return self.send(calls.save(self.partition, saves))

    def create(self, definition: Definition | None = None, plan: Plan | None = None, **fields: Any) -> Stored:
        """Creates a task, by default every minute from a minute after T0."""
        wanted = definition or task()
        (saved,) = self.put(self.save_of(wanted, plan or every(), **fields))
        assert saved.status == "saved", saved
        return Stored(wanted, saved.generation, saved.version)

    def edit(self, base: Stored, plan: Plan | None = None, *, beside: str = "", **changes: Any) -> Stored:
        """Changes a task; ``plan`` stands for what its new schedule has coming."""
        wanted = replace(base.definition, **changes)
        (saved,) = self.put(self.save_of(wanted, plan, base, beside=beside))
        assert saved.status == "saved", saved
        return Stored(wanted, saved.generation, saved.version)

    def state(self, task_id: str = "a") -> TaskState | None:
        found = self.transport.run(queries.load_states(self.space, [task_id]))
        return found[0] if found else None

    def ledger(self) -> list[tuple[Any, ...]]:
        """The ledger, oldest first, shortened to what tests compare."""
        lines = self.transport.run(queries.history(self.space, None, 1000))
        return [_short(line) for line in reversed(lines)]

    def column(self, kind: str) -> dict[str, str]:
        """A hash, as text."""
        found = self.client.hgetall(self.partition.key(kind))
        return {key.decode(): value.decode(errors="replace") for key, value in found.items()}

    def due(self, queue: str = "default") -> dict[str, float]:
        found = self.client.zrange(self.partition.due(queue), 0, -1, withscores=True)
        return {member.decode(): score for member, score in found}

    def worker(self, *queues: str, lease_ms: int = LEASE, name: str = "host:1") -> "Hand":
        """A registered worker."""
        served = queues or ("default",)
        answer = self.send(calls.register(self.partition, self.op(), lease_ms, served, name))
        assert answer.boot
        return Hand(self, answer.boot, served, name)


@dataclass
class Hand:
    """A worker moved by hand."""

    lab: Lab
    boot: str
    queues: tuple[str, ...]
    name: str
    seq: int = 0

    def ask(self, slots: int = 10, refused: tuple[str, ...] = (), *, seq: int | None = None) -> Call[Claimed]:
        """The claim call of a sequence number, by default the last one's."""
        used = self.seq if seq is None else seq
        return calls.claim(self.lab.partition, self.boot, used, slots, self.queues, refused)

    def claimed(self, slots: int = 10, refused: tuple[str, ...] = ()) -> Claimed:
        """The answer to the next claim."""
        self.seq += 1
        answer = self.lab.send(self.ask(slots, refused))
        assert answer.status == "ok"
        return answer

    def claim(self, slots: int = 10, refused: tuple[str, ...] = ()) -> tuple[Attempt, ...]:
        return self.claimed(slots, refused).attempts

    def one(self) -> Attempt:
        """The only attempt there is to claim."""
        (attempt,) = self.claim()
        return attempt

    def settle(self, attempt: Attempt, action: str = "ok", **fields: Any) -> bool:
        end = Settlement(attempt.run_id, attempt.token, action, attempt.queue, **fields)
        ((answer,), (again,)) = self.lab.both(calls.settle(self.lab.partition, self.boot, self.name, [end]))
        assert again == "stale"
        return answer == "settled"

    def renew(self) -> calls.Renewed:
        return self.lab.send(calls.renew(self.lab.partition, self.boot))

    @property
    def expired(self) -> calls.Expired:
        """How this worker is named once its lease ran out."""
        return calls.Expired(self.boot, ",".join(self.queues), self.name)

    def reaped(self) -> tuple[str, int, int]:
        answer = self.lab.send(calls.reap(self.lab.partition, self.expired))
        return answer.status, answer.taken, answer.left


def _read(pipe: Any, name: bytes, kind: bytes) -> None:
    if kind == b"hash":
        pipe.hgetall(name)
    elif kind == b"zset":
        pipe.zrange(name, 0, -1, withscores=True)
    elif kind == b"stream":
        pipe.xrange(name)
    else:
        pipe.lrange(name, 0, -1)


def _short(line: HistoryEntry) -> tuple[Any, ...]:
    if line.kind == "run":
        return line.kind, line.task_id, line.what, line.attempt
    if line.kind == "skip":
        return line.kind, line.task_id, line.what, line.count, line.nominal_ms, line.last_ms
    return line.kind, line.task_id, line.what


def check(stored: dict[str, Any]) -> None:
    """What holds after every call: no column knows a task the others do not, and every open run is counted."""
    tasks = set(stored.get("tasks", {}))
    generations = {task_id: row.split(b" ")[0] for task_id, row in stored.get("plan", {}).items()}
    assert set(generations) == tasks
    for kind in ("open", "remaining", "held", "last", "streak", "paused", "skips", "unroutable", "quarantine"):
        assert set(stored.get(kind, {})) <= tasks, f"{kind} holds a task that is gone"
    assert {label.rpartition(b"\0")[2] for label in stored.get("labels", {})} == tasks
    assert len(stored.get("labels", {})) == len(tasks)
    _check_places(stored, tasks)
    waiting = set(stored.get("waiting", {}))
    placed = [run for kind, runs in stored.items() if kind.startswith("waiting:") for run in runs]
    assert sorted(placed) == sorted(waiting)
    live = [run for kind, runs in stored.items() if kind.startswith("live:") for run in runs]
    assert len(set(live)) == len(live), "two workers hold the same run"
    assert not waiting & set(live)
    runs = [run.decode() for run in [*live, *waiting]]
    counted = Counter(
        task_id_of(run).encode() for run in runs if run.split(":")[-2].encode() == _generation(generations, run)
    )
    assert counted == {task_id: int(row.split(b" ")[0]) for task_id, row in stored.get("open", {}).items()}
    for task_id, row in stored.get("open", {}).items():
        marks = sorted(
            run.rpartition(":")[2]
            for run in runs
            if task_id_of(run).encode() == task_id and run.split(":")[-2].encode() == _generation(generations, run)
        )
        assert sorted(filter(None, row.decode().split(" ")[1].split(","))) == marks
    assert {run.decode() for run in stored.get("cancels", {})} <= set(runs), "a run that has ended is asked to end"
    boots = set(stored.get("workers", {}))
    assert set(stored.get("leases", {})) == boots
    assert {kind.partition(":")[2].encode() for kind in stored if kind.startswith("live:")} <= boots
    assert set(stored.get("replies", {})) == set(stored.get("reply_times", {}))


def _generation(generations: dict[bytes, bytes], run: str) -> bytes | None:
    return generations.get(task_id_of(run).encode())


def _check_places(stored: dict[str, Any], tasks: set[bytes]) -> None:
    due = [task_id for kind, ids in stored.items() if kind.startswith("due:") for task_id in ids]
    assert len(set(due)) == len(due), "a task stands in two queues"
    assert set(due) <= tasks, "the schedule holds a task that is gone"
    for task_id in tasks - set(due):
        assert stored["plan"][task_id].endswith(b" ."), "a task that has not ended dropped out of the schedule"
        assert task_id in stored.get("open", {}), "a task ended without a run and was not removed"
