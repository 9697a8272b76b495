"""``sisy``: the command line. Exit codes: 0 ok, 1 failed, 2 usage, 3 Redis unreachable, 4 not found."""

import os
import sys
from collections.abc import Sequence

from sisy_redis import callables
from sisy_redis.cli import arguments, commands
from sisy_redis.embedded import EmbeddedUnavailable
from sisy_redis.errors import DoesNotExist, RedisUnavailable, SettingsError, SisyError, TaskError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Errors are one line on standard error."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        for_worker = arguments.worker_arguments(given)
        if for_worker is not None:
            from sisy_redis.worker.__main__ import main as worker

            return worker(for_worker)
        return _run(given)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: Sequence[str]) -> int:
    chosen = arguments.parser(given).parse_args(given)
    try:
        if chosen.command != "demo":
            callables.set_up_project()
        code = commands.run(chosen)
        sys.stdout.flush()
        return code
    except (TaskError, SettingsError) as error:
        return _fail(error, 2)
    except (RedisUnavailable, EmbeddedUnavailable) as error:
        return _fail(error, 3)
    except DoesNotExist as error:
        return _fail(error, 4)
    except SisyError as error:
        return _fail(error, 1)


def _fail(error: Exception, code: int) -> int:
    print(f"sisy: {' '.join(str(error).split())}", file=sys.stderr)
    return code
