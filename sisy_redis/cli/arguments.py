"""The command line's grammar."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from sisy_redis import __version__

_GLOBAL = ("--redis-url", "--namespace")
_MOST = 1_000_000


class _Parser(argparse.ArgumentParser):
    """argparse would print the whole usage before each error; here an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def worker_arguments(given: Sequence[str]) -> list[str] | None:
    """What to hand to the worker's own command line, global options included; None for another command."""
    i = 0
    while i < len(given):
        if given[i] == "worker":
            return [*given[:i], *given[i + 1 :]]
        name, _, value = given[i].partition("=")
        if name not in _GLOBAL:
            return None
        i += 1 if value else 2
    return None


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Every command and option. ``given``: what will be parsed, since ``--every`` takes the place of an expression."""
    top = _Parser(prog="sisy", description="Cron for fleets, on nothing but Redis.", epilog=_EPILOG)
    top.add_argument("--version", action="version", version=f"sisy-redis {__version__}")
    common, reads = _Parser(add_help=False), _Parser(add_help=False)
    for one in (top, common):
        # Without a default, so that one given before the command is not overwritten by the command's own.
        one.add_argument(
            "--redis-url", default=argparse.SUPPRESS, help="default SISY_REDIS_URL, else an embedded server"
        )
        one.add_argument("--namespace", default=argparse.SUPPRESS, help="default SISY_NAMESPACE, else sisy")
    reads.add_argument("--json", action="store_true", help="print JSON")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    commands.add_parser("worker", help="run tasks (sisy worker --help)")
    add = commands.add_parser("add", parents=[common, reads], help="save a task; an id that exists is changed")
    _add_options(add, has_expression=not any(word.partition("=")[0] == "--every" for word in given))
    listing = commands.add_parser("list", parents=[common, reads], help="tasks and when they run next")
    listing.add_argument("--limit", type=_count, help="at most so many; default: all of them")
    listing.add_argument("--label", help="only those with this label")
    commands.add_parser("show", parents=[common, reads], help="everything about a task").add_argument("id")
    following = commands.add_parser("next", parents=[common, reads], help="when an expression fires; needs no Redis")
    following.add_argument("expression")
    following.add_argument("--tz", help="IANA time zone; default SISY_TIME_ZONE, else UTC")
    following.add_argument("-n", type=_count, default=5, help="how many instants (default: 5)")
    _steering(commands, common, reads)
    _runs(commands, common, reads)
    past = commands.add_parser("history", parents=[common, reads], help="what became of runs and occurrences")
    past.add_argument("id", nargs="?", help="a task, also one that is gone; default: all of them")
    past.add_argument("-n", type=_count, default=20, help="how many lines (default: 20)")
    commands.add_parser("workers", parents=[common, reads], help="registered workers")
    commands.add_parser("demo", parents=[reads], help="see it work, on an embedded server, in under a minute")
    return top


_EPILOG = "Exit codes: 0 ok, 1 failed, 2 usage, 3 Redis unreachable, 4 not found."


def _add_options(add: argparse.ArgumentParser, *, has_expression: bool) -> None:
    if has_expression:
        add.add_argument("schedule", metavar="EXPR", help='a cron expression such as "0 2 * * *", or @once; or --every')
    add.add_argument("callable", help="dotted path of the callable")
    add.add_argument("--every", type=_seconds, metavar="SECONDS", help="an interval, in the place of EXPR")
    add.add_argument("--id", help="default: the label, and that is by default the dotted path")
    add.add_argument("--label")
    add.add_argument("--tz", help="IANA time zone; default SISY_TIME_ZONE, else UTC")
    add.add_argument("--queue")
    add.add_argument("--userdata", metavar="JSON", help="a JSON object")
    add.add_argument("--iterations", type=int, metavar="N", help="end after so many runs")
    add.add_argument("--no-overlap", action="store_true", help="skip an occurrence while a run is open")
    add.add_argument("--start", metavar="INSTANT", help="not before this instant, such as 2030-01-31T08:00:00+01:00")
    add.add_argument("--end", metavar="INSTANT", help="not at or after this instant")
    add.add_argument("--retry", type=int, metavar="ATTEMPTS", help="attempts of a run, the first included")
    add.add_argument("--retry-wait", type=_seconds, metavar="SECONDS", help="between two attempts (default: 0)")
    add.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end an attempt that takes longer")
    add.add_argument("--disabled", action="store_true", help="save it without running it")


def _steering(commands: "argparse._SubParsersAction[_Parser]", common: _Parser, reads: _Parser) -> None:
    for name, text in (("pause", "hold a task's schedule"), ("resume", "let it go on"), ("delete", "delete a task")):
        one = commands.add_parser(name, parents=[common], help=text)
        one.add_argument("id")
        if name == "pause":
            one.add_argument("--until", metavar="INSTANT", help="resume by itself then")
            _who_and_why(one)
    trigger = commands.add_parser("trigger", parents=[common, reads], help="run a task now, beside its schedule")
    trigger.add_argument("id")
    skip = commands.add_parser("skip", parents=[common], help="let a task's next occurrences go")
    skip.add_argument("id")
    skip.add_argument("-n", type=_count_from_0, default=1, help="how many (default: 1); 0 takes it back")
    window = commands.add_parser(
        "maintenance", parents=[common], help="admit nothing in the whole namespace for a while"
    )
    window.add_argument("--until", metavar="INSTANT", help="when it ends; without it, it ends now")
    window.add_argument("--start", metavar="INSTANT", help="when it begins (default: now)")
    _who_and_why(window)


def _runs(commands: "argparse._SubParsersAction[_Parser]", common: _Parser, reads: _Parser) -> None:
    commands.add_parser("runs", parents=[common, reads], help="a task's open runs").add_argument("id")
    cancel = commands.add_parser("cancel", parents=[common, reads], help="end a run")
    cancel.add_argument("run")
    _who_and_why(cancel)
    why = commands.add_parser(
        "explain", parents=[common, reads], help="why a task runs or not, or what became of an occurrence"
    )
    why.add_argument("id")
    why.add_argument("--at", metavar="INSTANT", help="the occurrence's instant, such as 2030-01-31T08:00:00+01:00")
    fill = commands.add_parser(
        "backfill", parents=[common, reads], help="run past instants again, or show how far that is"
    )
    fill.add_argument("id")
    fill.add_argument("--start", metavar="INSTANT", help="from this instant on")
    fill.add_argument("--end", metavar="INSTANT", help="until before this instant")
    fill.add_argument("--max-running", type=_count, default=1, metavar="N", help="so many at once (default: 1)")
    fill.add_argument("--stop", metavar="BACKFILL", help="end this backfill, and its open runs")
    dead = commands.add_parser("dead", parents=[common, reads], help="runs nobody will try again")
    dead.add_argument("id", nargs="?", help="a task; default: all of them")
    dead.add_argument("-n", type=_count, default=100, help="how many (default: 100)")
    commands.add_parser("requeue", parents=[common, reads], help="try a dead run again").add_argument("run")
    commands.add_parser("bury", parents=[common], help="forget dead runs").add_argument("run", nargs="+")
    doctor = commands.add_parser("doctor", parents=[common, reads], help="find what cannot be in Redis, and mend it")
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended without losing anything")
    purge = commands.add_parser("purge", parents=[common, reads], help="forget old history, reports and dead runs")
    purge.add_argument("--older-than", type=_days, default=30.0, metavar="DAYS", help="default: 30")


def _who_and_why(one: argparse.ArgumentParser) -> None:
    one.add_argument("--reason", default="")
    one.add_argument("--by", default="")


def _count(raw: str) -> int:
    return _whole(raw, 1)


def _count_from_0(raw: str) -> int:
    return _whole(raw, 0)


def _whole(raw: str, least: int) -> int:
    try:
        value = int(raw)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{raw!r} is no whole number") from None
    if not least <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{raw} is outside {least} to {_MOST}")
    return value


def _days(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{raw!r} is no number of days") from None
    if not 0 <= value <= 36_500:
        raise argparse.ArgumentTypeError(f"{raw} is outside 0 to 36500 days")
    return value


def _seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{raw!r} is no number of seconds") from None
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{raw} is outside 0 to 1e9 seconds")
    return value
