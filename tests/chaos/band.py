"""The workers of a chaos run: real processes, some with a wrong wall clock; the dead are replaced."""

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import fleet
from waiting import poll

HERE = Path(__file__).resolve().parent
STOP_SECONDS = 120.0
OPTIONS = ("--concurrency", "48", "--drain-timeout", "5", "--log-level", "info")


def worker_paths(*first: Path) -> str:
    """What a worker needs to import: this folder, the tests' own modules, and the package unless it is installed."""
    checkout = [] if os.environ.get("SISY_TEST_WHEEL") == "1" else [HERE.parent.parent]
    return os.pathsep.join(str(path) for path in (*first, HERE, HERE.parent, *checkout))


class Band:
    """One worker a place. ``places``: (lease in seconds, how wrong its wall clock is in seconds)."""

    def __init__(self, url: str, namespace: str, folder: Path, places: Sequence[tuple[float, int]]) -> None:
        self._url, self._namespace, self._folder, self._places = url, namespace, folder, places
        self._frozen: set[int] = set()
        self.leaving: list[fleet.Worker] = []
        self.ever: list[fleet.Worker] = []
        self.workers = [self._start(place) for place in range(len(places))]

    def _start(self, place: int) -> fleet.Worker:
        lease, shift = self._places[place]
        paths = worker_paths(HERE / "shifted") if shift else worker_paths()
        env = {"PYTHONPATH": paths, "CHAOS_SHIFT_SECONDS": str(shift)}
        worker = fleet.Worker(self._url, self._namespace, self._folder, "--lease", str(lease), *OPTIONS, env=env)
        self.ever.append(worker)
        return worker

    def pick(self, rng: random.Random) -> int | None:
        """A place whose worker is not frozen; one at least is always left alone."""
        free = [place for place in range(len(self.workers)) if place not in self._frozen]
        return rng.choice(free) if len(free) > 1 else None

    def lease(self, place: int) -> float:
        return self._places[place][0]

    def kill(self, place: int) -> None:
        """SIGKILL, and another in its place."""
        self.workers[place].kill()
        self.workers[place] = self._start(place)

    def drain(self, place: int) -> None:
        """SIGTERM, and another in its place while it drains; it has to be listening for signals by then."""
        old = self.workers[place]
        poll(lambda: "slots" in old.output, STOP_SECONDS, "the worker is up")
        old.process.send_signal(signal.SIGTERM)
        self.leaving.append(old)
        self.workers[place] = self._start(place)

    def freeze(self, place: int) -> None:
        self._frozen.add(place)
        self.workers[place].process.send_signal(signal.SIGSTOP)

    def thaw(self, place: int) -> None:
        self._frozen.discard(place)
        self.workers[place].process.send_signal(signal.SIGCONT)

    def thaw_all(self) -> None:
        for place in list(self._frozen):
            self.thaw(place)

    def revive(self) -> int:
        """Replaces workers that were killed by a callable of their own; how many."""
        killed = [place for place, worker in enumerate(self.workers) if worker.process.poll() == -signal.SIGKILL]
        for place in killed:
            self.workers[place] = self._start(place)
        return len(killed)

    def dead(self) -> list[str]:
        """The logs of workers that ended though nobody ended them."""
        return [worker.output[-3000:] for worker in self.workers if worker.process.poll() is not None]

    def stop(self) -> list[int]:
        """SIGTERM to all of them at once, once; their exit codes."""
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)
        return [worker.process.wait(STOP_SECONDS) for worker in (*self.leaving, *self.workers)]

    def end(self) -> None:
        """Nothing of it is left."""
        self.thaw_all()
        for worker in self.ever:
            worker.kill()
