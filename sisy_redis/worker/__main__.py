"""``python -m sisy_redis.worker``: runs tasks until it is told to stop."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from sisy_redis import callables, settings
from sisy_redis.errors import SettingsError
from sisy_redis.worker import logs, options, service, supervisor


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a worker, or supervises several; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = options.parse(arguments, os.environ)
    logs.configure(chosen.log_level, chosen.log_format)
    try:
        callables.set_up_project()
        options.check_server(chosen, settings.current().redis_url, os.environ)
        service.check_usage(chosen)
    except SettingsError as error:
        print(f"sisy-redis: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if chosen.processes > 1:
        return supervisor.run(
            chosen.processes, [sys.executable, "-m", "sisy_redis.worker", *arguments, "--processes", "1"]
        )
    _leave_at_sigterm()
    try:
        return service.run(chosen)
    except KeyboardInterrupt:
        # Before the worker listens for signals: nothing was claimed yet.
        return 130


def _leave_at_sigterm() -> None:
    """Until the worker listens for signals itself, SIGTERM leaves through every ``finally``: it may hold the embedded server."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


if __name__ == "__main__":
    sys.exit(main())
