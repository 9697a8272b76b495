"""The user's side of a chaos run: saves the tasks, keeps editing some of them, and remembers what it may expect of each."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from catalog import Kind
from history import Epoch, Once, Periodic, TaskFacts

from sisy_redis import Scheduler, calls
from sisy_redis.errors import ConflictError, DoesNotExist, RedisUnavailable, SisyError, TaskBusy
from sisy_redis.keys import Space
from sisy_redis.transport import Transport

T = TypeVar("T")
_PAUSE_S = 0.25
_RETRY_S = 0.1
_PERIODS = tuple(Periodic(step) for step in (2000, 3000, 4000, 5000, 1700, 2900))


@dataclass
class Known:
    """One generation of a task, as far as its user knows."""

    kind: Kind
    generation: str
    epochs: list[Epoch]
    triggers: list[int] = field(default_factory=lambda: [0, 0])
    is_deleted: bool = False
    is_paused: bool = False

    def facts(self, decided_until_ms: int, alive: set[str]) -> TaskFacts:
        fields = self.kind.fields
        is_there = not self.is_deleted and self.kind.id in alive
        return TaskFacts(
            id=self.kind.id,
            generation=self.generation,
            epochs=tuple(self.epochs),
            forbids_overlap=self.kind.forbids_overlap,
            iterations=fields.get("iterations", 0),
            has_timeout="timeout" in fields,
            attempts=self.kind.attempts,
            is_deleted=self.is_deleted,
            has_ended=not is_there,
            decided_until_ms=None if self.is_deleted or fields.get("iterations") else decided_until_ms,
            triggers=(self.triggers[0], self.triggers[1]),
        )


class World(threading.Thread):
    """Saves ``kinds`` at once; as a thread it edits, pauses, triggers, deletes and creates anew. ``counts``: what it did.

    ``url`` is where the faults are, ``server_url`` the server itself. ``lock`` is held while a task is being changed: the
    server's clock is not stepped then, or nobody could say between which of its instants the change was made.
    """

    def __init__(self, url: str, server_url: str, namespace: str, journal: str, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._scheduler = Scheduler(url, namespace)
        self._clock, self._space = Transport(server_url), Space(namespace)
        self._journal, self._rng = journal, rng
        self._stopped = threading.Event()
        self._notes = 0
        self.lock = threading.Lock()
        self.known: list[Known] = []
        self.counts: Counter[str] = Counter()
        self.error: Exception | None = None
        self._is_closed = False

    def create(self, kinds: list[Kind]) -> None:
        """Saves all of them in few round trips."""
        from_ms = self.now_ms()
        instants = [kind.instants(from_ms) for kind in kinds]
        definitions = [kind.definition(self._journal, at) for kind, at in zip(kinds, instants, strict=True)]
        self.insist(lambda: self._scheduler.save_many(definitions))
        by_ms = self.now_ms()
        stored = {view.id: view for view in self._scheduler.find()}
        for kind, at in zip(kinds, instants, strict=True):
            generation = str(stored[kind.id].stored.generation)
            self.known.append(Known(kind, generation, [self._epoch(at, from_ms, by_ms)]))

    def now_ms(self) -> int:
        """The server's time."""
        return self.insist(lambda: int(self._clock.execute([calls.server_time(self._space)])[0]))

    def insist(self, action: Callable[[], T]) -> T:
        """The action's result; it is repeated for as long as Redis does not answer."""
        while True:
            try:
                return action()
            except (RedisUnavailable, ConflictError):
                if self._is_closed:
                    raise
                self.counts["users had to repeat"] += 1
                time.sleep(_RETRY_S)
            except (DoesNotExist, TaskBusy):
                raise
            except SisyError as error:
                if "took too long" not in str(error):
                    raise
                self.counts["users were too late"] += 1

    def run(self) -> None:
        acts = (self._edit, self._edit, self._annotate, self._pause, self._resume, self._trigger, self._recreate)
        try:
            while not self._stopped.wait(_PAUSE_S):
                with self.lock:
                    self._rng.choice(acts)(self._rng.choice(self._dynamic()))
        except Exception as error:
            self.error = error

    def finish(self) -> None:
        """Changes nothing more, and lets go on what is paused."""
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error
        for known in self._dynamic():
            self._resume(known)

    def alive(self) -> set[str]:
        """The ids of the tasks that are there."""
        return {view.id for view in self.insist(self._scheduler.find)}

    def pause_all(self) -> None:
        for task_id in self.alive():
            self.insist(lambda task_id=task_id: self._scheduler.pause(task_id, by="chaos"))  # type: ignore[misc]

    def delete_some(self) -> None:
        """Every second task that is there."""
        for known in [k for k in self.known if not k.is_deleted and k.kind.id in self.alive()][::2]:
            self._remove(known)

    def close(self) -> None:
        self._is_closed = True
        self._stopped.set()
        self._scheduler.close()
        self._clock.close()

    def _dynamic(self) -> list[Known]:
        return [known for known in self.known if known.kind.is_dynamic and not known.is_deleted]

    @staticmethod
    def _epoch(instants: Periodic | Once, from_ms: int, by_ms: int) -> Epoch:
        # A one-off's only instant is beside the schedule, and nothing later than its start keeps it from being due.
        return Epoch(instants, from_ms, from_ms if isinstance(instants, Once) else by_ms)

    def _save(self, known_kind: Kind, instants: Periodic | Once) -> str:
        self._notes += 1
        definition = known_kind.definition(self._journal, instants, self._notes)
        return str(self.insist(lambda: self._scheduler.save(definition)).stored.generation)

    def _edit(self, known: Known) -> None:
        instants = self._rng.choice(_PERIODS)
        from_ms = self.now_ms()
        generation = self._save(known.kind, instants)
        assert generation == known.generation, "an edit makes no other task"
        if instants != known.epochs[-1].schedule:
            known.epochs.append(self._epoch(instants, from_ms, self.now_ms()))
        self.counts["schedules edited"] += 1

    def _annotate(self, known: Known) -> None:
        generation = self._save(known.kind, known.epochs[-1].schedule)
        assert generation == known.generation, "an edit makes no other task"
        self.counts["userdata edited"] += 1

    def _pause(self, known: Known) -> None:
        self.insist(lambda: self._scheduler.pause(known.kind.id, by="chaos", reason="to see"))
        self.counts["tasks paused"] += not known.is_paused
        known.is_paused = True

    def _resume(self, known: Known) -> None:
        if known.is_paused:
            self.insist(lambda: self._scheduler.resume(known.kind.id))
            known.is_paused = False
            self.counts["tasks resumed"] += 1

    def _trigger(self, known: Known) -> None:
        def attempt() -> None:
            known.triggers[1] += 1
            self._scheduler.trigger(known.kind.id)

        try:
            self.insist(attempt)
        except TaskBusy:
            self.counts["triggers refused"] += 1
            return
        known.triggers[0] += 1
        self.counts["tasks triggered"] += 1

    def _remove(self, known: Known) -> None:
        self.insist(lambda: self._scheduler.delete(known.kind.id))
        known.is_deleted = True
        self.counts["tasks deleted"] += 1

    def _recreate(self, known: Known) -> None:
        self._remove(known)
        from_ms = self.now_ms()
        instants = self._rng.choice(_PERIODS)
        generation = self._save(known.kind, instants)
        self.known.append(Known(known.kind, generation, [self._epoch(instants, from_ms, self.now_ms())]))
