"""The worker's command line; each option can be given as SISY_* in the environment too."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """A worker's settings. Times in seconds."""

    redis_url: str | None = field(default=None, repr=False)
    namespace: str | None = None
    imports: tuple[str, ...] = ()
    queues: tuple[str, ...] = ("default",)
    concurrency: int = 16
    processes: int = 1
    burst: bool = False
    drain_timeout: float = 25.0
    lease: float = 15.0
    allow: tuple[str, ...] = ()
    embedded: bool = False
    log_level: str = "info"
    log_format: str = "text"


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def read(raw: str) -> float:
        try:
            value = kind(raw)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{raw!r} is no number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{raw} is outside {low:g} to {high:g}")
        return value

    return read


def _names(raw: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in raw.split(",") if part.strip()))
    if not names or len(names) > 16 or any(c in name for name in names for c in " {}:"):
        raise argparse.ArgumentTypeError(
            f"{raw!r}: give 1 to 16 names without spaces, braces or colons, joined by commas"
        )
    return names


def parser() -> argparse.ArgumentParser:
    """The options, without the environment."""
    p = argparse.ArgumentParser(prog="python -m sisy_redis.worker", description="Runs the tasks of a namespace.")
    p.add_argument(
        "--redis-url",
        help="redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL; one with a password belongs into "
        "SISY_REDIS_URL, where ps does not show it",
    )
    p.add_argument("--namespace", help="the namespace to serve (default: sisy)")
    p.add_argument("--import", dest="imports", action="append", metavar="MODULE", help="import a module; repeatable")
    p.add_argument("--queues", type=_names, help="queues to serve, joined by commas (default: default)")
    p.add_argument("--concurrency", type=_number(int, 1, 1000), help="runs at the same time (default: 16)")
    p.add_argument("--processes", type=_number(int, 1, 256), help="worker processes to supervise (default: 1)")
    p.add_argument("--burst", action="store_true", default=None, help="exit when nothing is due or running")
    p.add_argument(
        "--drain-timeout", type=_number(float, 0, 86400), help="seconds to finish after a signal (default: 25)"
    )
    p.add_argument(
        "--lease", type=_number(float, 1, 300), help="seconds until a dead worker's runs move on (default: 15)"
    )
    p.add_argument(
        "--allow", action="append", metavar="PREFIX", help="run only callables under this prefix; repeatable"
    )
    p.add_argument("--embedded", action="store_true", default=None, help="use the embedded server")
    p.add_argument("--log-level", type=str.lower, choices=("debug", "info", "warning", "error"))
    p.add_argument("--log-format", type=str.lower, choices=("text", "json"))
    return p


def parse(argv: Sequence[str], env: Mapping[str, str]) -> WorkerOptions:
    """The options from the command line, else the environment, else the defaults.

    Bad usage prints a message that names the option and exits with 2.
    """
    p = parser()
    if sys.platform == "win32":
        p.error("sisy-redis needs Linux or macOS; on Windows run it in WSL")
    chosen = vars(p.parse_args(list(argv)))
    values: dict[str, Any] = _from_env(p, env) | _given(chosen)
    for name in ("imports", "allow"):
        if name in values:
            values[name] = tuple(values[name])
    return WorkerOptions(**values)


def check_server(options: WorkerOptions, configured_url: str | None, env: Mapping[str, str]) -> None:
    """Exits with 2 where a server would be embedded in a pod without having been asked for."""
    if env.get("KUBERNETES_SERVICE_HOST") and not options.redis_url and not configured_url and not options.embedded:
        parser().error(
            "this is Kubernetes and no Redis was named: give --redis-url (SISY_REDIS_URL), or --embedded if you mean it"
        )


def _given(chosen: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if value is not None}


def _from_env(p: argparse.ArgumentParser, env: Mapping[str, str]) -> dict[str, Any]:
    """What SISY_* variables say; an empty one counts as not set, as deployment files like to leave them."""
    words: list[str] = []
    for action in p._actions:
        name = action.option_strings[-1].removeprefix("--")
        variable = "SISY_" + name.replace("-", "_").upper()
        raw = env.get(variable, "").strip()
        if not raw or name == "help":
            continue
        if action.nargs == 0:
            words += [f"--{name}"] if _is_yes(p, variable, raw) else []
        elif action.dest in ("imports", "allow"):
            words += [f"--{name}={part.strip()}" for part in raw.split(",") if part.strip()]
        else:
            words.append(f"--{name}={raw}")
    return _given(vars(p.parse_args(words)))


def _is_yes(p: argparse.ArgumentParser, variable: str, raw: str) -> bool:
    if raw.lower() not in (*_YES, *_NO):
        p.error(f"{variable} is {raw!r}; give one of {', '.join((*_YES, *_NO))}")
    return raw.lower() in _YES
