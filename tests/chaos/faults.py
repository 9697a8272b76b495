"""What is done to a running fleet, and in which order: drawn from a seed, each kind at least once."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import redis
from band import Band
from server_clock import ServerClock
from servers import Server
from wire import Wire
from world import World

HOUR_MS = 3_600_000
COUNTED_BY_THE_WIRE = ("connections cut", "requests lost", "replies lost")


@dataclass
class Faults:
    """Does one thing at a time; what has to be undone later is in ``due``: (when, what)."""

    server: Server
    clock: ServerClock | None
    wire: Wire
    band: Band
    world: World
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    steps: list[tuple[float, float]] = field(default_factory=list)
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def kinds(self) -> dict[str, Callable[[], None]]:
        """Every fault by its name; those of the server's clock only where it can be stepped."""
        found = {
            "worker killed": self.kill_worker,
            "worker frozen past its lease": self.freeze_worker,
            "worker drained": self.drain_worker,
            "server killed": self.kill_server,
            "server stalled": self.stall_server,
            "connections cut": self.wire.cut,
            "requests lost": lambda: self.wire.lose_requests(self.rng.randint(2, 8)),
            "replies lost": lambda: self.wire.lose_replies(self.rng.randint(2, 8)),
            "scripts flushed": self.flush_scripts,
            "clients killed": self.kill_clients,
            "server full": self.fill_server,
        }
        if self.clock is not None:
            found["server's clock back an hour"] = self.step_back
        return found

    def note_clock(self) -> None:
        """Remembers what the server's clock shows from now on."""
        shift = self.clock.shift_ms if self.clock else 0
        now = time.monotonic()
        self.steps.append((now, time.time() * 1000 - now * 1000 + shift))

    def kill_worker(self) -> None:
        self.band.kill(self._place())

    def drain_worker(self) -> None:
        self.band.drain(self._place())

    def freeze_worker(self) -> None:
        place = self._place()
        self.band.freeze(place)
        until = time.monotonic() + self.band.lease(place) * self.rng.uniform(1.3, 2.5)
        self.due.append((until, lambda: self.band.thaw(place)))

    def _place(self) -> int:
        while (place := self.band.pick(self.rng)) is None:
            self._pause(0.1)
        return place

    def kill_server(self) -> None:
        """A power cut, as far as the process is concerned; what it had acknowledged is in its append-only file."""
        self.server.kill()
        time.sleep(self.rng.uniform(0.1, 2.5))
        self.server.start()

    def stall_server(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.5, 4.0))
        os.kill(self.server.pid, signal.SIGCONT)

    def flush_scripts(self) -> None:
        with self.server.client() as client:
            client.script_flush()

    def kill_clients(self) -> None:
        with self.server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def fill_server(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", "1mb")
        self.due.append((time.monotonic() + self.rng.uniform(2.0, 5.0), self.empty_server))

    def empty_server(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", "0")

    def step_back(self) -> None:
        """An hour back for a while, and forward again: schedules wait for the clock to catch up."""
        with self._users_at_rest():
            self._step(-HOUR_MS)
            self._pause(self.rng.uniform(3.0, 6.0))
            self._step(HOUR_MS)
        self.counts["server's clock forward an hour"] += 1

    def step_forward(self) -> None:
        """An hour forward, for good."""
        with self._users_at_rest():
            self._step(HOUR_MS)
        self.counts["server's clock forward an hour"] += 1

    @contextmanager
    def _users_at_rest(self) -> Iterator[None]:
        # A user who is at it may be waiting for the end of another fault.
        while not self.world.lock.acquire(timeout=0.1):
            self.undo()
        try:
            yield
        finally:
            self.world.lock.release()

    def _step(self, ms: int) -> None:
        assert self.clock is not None
        self.clock.step(ms)
        self.note_clock()

    def undo(self, *, all_of_it: bool = False) -> None:
        """What has to be undone by now, or all; and a worker for each that its callable killed."""
        self.counts["worker killed by its callable"] += self.band.revive()
        now = time.monotonic()
        later = []
        for when, what in self.due:
            if all_of_it or when <= now:
                what()
            else:
                later.append((when, what))
        self.due = later

    def rage(self, seconds: float, say: Callable[[str], None]) -> None:
        """Faults for so long, each kind at least once; longer where the machine is too slow for that."""
        self.note_clock()
        began = time.monotonic()
        kinds = self.kinds()
        waiting: list[str] = []
        done: set[str] = set()
        has_jumped = self.clock is None
        while time.monotonic() - began < seconds or len(done) < len(kinds) or not has_jumped:
            if not waiting:
                waiting = self.rng.sample(sorted(kinds), len(kinds))
            self._pause(self.rng.uniform(0.5, 2.5))
            if not has_jumped and time.monotonic() - began > seconds / 2:
                has_jumped = True
                say("server's clock forward an hour")
                self.step_forward()
                continue
            name = waiting.pop()
            say(name)
            if self._does(name, kinds[name]):
                done.add(name)
        while self.due:
            self._pause(0.1)

    def missing(self) -> set[str]:
        """The kinds that have not happened."""
        return {name for name in self.kinds() if not (self.counts + self.wire.counts)[name]}

    def _does(self, name: str, fault: Callable[[], None]) -> bool:
        try:
            fault()
        except (redis.RedisError, OSError) as error:
            # The server may be full or busy for its own client too.
            self.counts[f"{name}: refused ({type(error).__name__})"] += 1
            return False
        if name not in COUNTED_BY_THE_WIRE:
            self.counts[name] += 1
        return True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.undo()
            time.sleep(min(0.1, left))

    def calm(self) -> None:
        """Everything is as it should be again."""
        self.undo(all_of_it=True)
        self.wire.calm()
        self.band.thaw_all()
