"""The demo's course: sow, start workers, kill one in the middle of a run, wait until all is done, judge."""

import json
import threading
from collections import Counter
from pathlib import Path

from sisy_redis import clock
from sisy_redis.demo.fleet import Fleet
from sisy_redis.demo.seeds import SLOW, Expected, sow
from sisy_redis.demo.table import Screen
from sisy_redis.demo.verdict import Note, Verdict, judge
from sisy_redis.scheduler import Scheduler

_WORKERS = 3
_LIMIT_SECONDS = 45.0
_MIDDLE_MS = 1000
_TICK_SECONDS = 0.25
_ENOUGH_HISTORY = 2000
_pause = threading.Event()


def play(scheduler: Scheduler, fleet: Fleet, journal: Path, screen: Screen) -> Verdict:
    """Everything between an empty server and the verdict; the caller stops the fleet."""
    deadline = clock.monotonic() + _LIMIT_SECONDS
    expected = sow(scheduler, journal)
    screen.say(f"saved {len(expected)} tasks: {', '.join(task.id for task in expected)}")
    fleet.start(_WORKERS)
    screen.say(f"started {_WORKERS} workers: {', '.join(map(str, fleet.pids))}")
    killed: Note | None = None
    while clock.monotonic() < deadline and fleet.alive:
        views = scheduler.find()
        notes = read_journal(journal)
        screen.update(views, scheduler.workers(), _ended(expected, notes))
        if not views:
            break
        killed = killed or _kill_in_the_middle(fleet, notes, screen)
        _pause.wait(_TICK_SECONDS)
    return judge(expected, read_journal(journal), scheduler.history(None, _ENOUGH_HISTORY), killed)


def read_journal(journal: Path) -> list[Note]:
    """What the callables wrote, in the order in which they did."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().splitlines()]


def _ended(expected: list[Expected], notes: list[Note]) -> dict[str, int]:
    ends = Counter(note["run_id"].rsplit(":", 2)[0] for note in notes if note["event"] == "end")
    return {task.id: ends[task.id] for task in expected}


def _kill_in_the_middle(fleet: Fleet, notes: list[Note], screen: Screen) -> Note | None:
    """Kills the worker of a slow run that has begun a while ago and goes on; returns the line that says it began."""
    slow = [note for note in notes if note["run_id"].startswith(f"{SLOW}:")]
    # The first run shows an undisturbed one.
    if len(slow) < 3 or slow[-1]["event"] != "start" or slow[-1]["pid"] not in fleet.alive:
        return None
    if clock.wall_ms() - slow[-1]["at_ms"] < _MIDDLE_MS:
        return None
    fleet.kill(slow[-1]["pid"])
    screen.say(f"killed worker {slow[-1]['pid']} with SIGKILL in the middle of run {slow[-1]['run_id']}")
    return slow[-1]
