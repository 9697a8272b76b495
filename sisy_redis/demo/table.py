"""What the demo shows while it goes on: a live table with rich on a terminal, else plain lines now and then."""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from sisy_redis import clock
from sisy_redis.output import aligned
from sisy_redis.views import TaskView, WorkerState

_PLAIN_EVERY_SECONDS = 3.0
_COLUMNS = ("task", "schedule", "next run", "state", "left", "last", "runs ended")


class Screen(Protocol):
    """Where the demo's progress goes."""

    def say(self, text: str) -> None:
        """One event."""

    def update(self, views: Sequence[TaskView], workers: Sequence[WorkerState], ended: dict[str, int]) -> None:
        """What Redis says now."""

    def close(self) -> None:
        """Gives the terminal back."""


def screen(*, is_quiet: bool) -> Screen:
    """The best screen this terminal has."""
    if is_quiet:
        return Quiet()
    if sys.stdout.isatty():
        try:
            return Live()
        except ImportError:
            pass
    return Plain()


class Quiet:
    """Shows nothing: standard output is for the JSON alone."""

    def say(self, text: str) -> None:
        """Nothing."""

    def update(self, views: Sequence[TaskView], workers: Sequence[WorkerState], ended: dict[str, int]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Plain:
    """Prints the table every few seconds."""

    def __init__(self) -> None:
        self._shown_at = clock.monotonic()

    def say(self, text: str) -> None:
        """A line of its own."""
        print(text, flush=True)

    def update(self, views: Sequence[TaskView], workers: Sequence[WorkerState], ended: dict[str, int]) -> None:
        """The table, unless it was shown just now."""
        if clock.monotonic() - self._shown_at < _PLAIN_EVERY_SECONDS:
            return
        self._shown_at = clock.monotonic()
        print(f"\n{headline(workers, ended)}\n{aligned([_COLUMNS, *rows(views, ended)])}", flush=True)

    def close(self) -> None:
        """Nothing to give back."""


class Live:
    """A table that stays in its place. Raises ImportError without rich."""

    def __init__(self) -> None:
        from rich.live import Live as RichLive

        self._live: Any = RichLive(refresh_per_second=4, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """A line above the table."""
        self._live.console.print(text, highlight=False, markup=False)

    def update(self, views: Sequence[TaskView], workers: Sequence[WorkerState], ended: dict[str, int]) -> None:
        """Redraws the table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*_COLUMNS, title=headline(workers, ended), title_justify="left")
        for row in rows(views, ended):
            table.add_row(*map(Text, row))
        self._live.update(table)

    def close(self) -> None:
        """Takes the table away."""
        self._live.stop()


def headline(workers: Sequence[WorkerState], ended: dict[str, int]) -> str:
    """Who works, and how much was done."""
    names = ", ".join(f"{worker.name.rpartition(':')[2]} ({worker.state}, {worker.holds} runs)" for worker in workers)
    return f"workers: {names or 'none yet'}; runs ended: {sum(ended.values())}"


def rows(views: Sequence[TaskView], ended: dict[str, int]) -> list[tuple[str, ...]]:
    """A line for each task that is still there, then one for each that has left."""
    found: list[tuple[str, ...]] = [
        (
            view.id,
            view.schedule,
            "-" if view.next_run is None else view.next_run.strftime("%H:%M:%S"),
            "running" if view.running else "waiting",
            "-" if view.iterations_left is None else str(view.iterations_left),
            view.last.outcome if view.last else "-",
            str(ended.get(view.id, 0)),
        )
        for view in views
    ]
    present = {view.id for view in views}
    found += [(task, "", "", "ended", "", "", str(number)) for task, number in ended.items() if task not in present]
    return found
