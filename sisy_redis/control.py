"""What a callable may say about its own run: try again later, give up, how far it is; and whether it was asked to end."""

from datetime import timedelta

from sisy_redis import calls, context
from sisy_redis.errors import StaleToken, TaskError

__all__ = ["Cancelled", "Discard", "Retry", "cancel_requested", "report_progress"]

_LONGEST_PROGRESS = 500
_LONGEST_WAIT_S = 7 * 86_400.0


class Retry(Exception):
    """Raised by a callable: this attempt failed, try the run again ``after`` (seconds or a timedelta; None: as ``retry=`` says).

    It counts as an attempt of ``retry=``; a task without one is tried a hundred times at most. Raises TaskError for a
    wait that is negative or longer than seven days.
    """

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= _LONGEST_WAIT_S:
            raise TaskError(f"a retry's wait is from 0 to {_LONGEST_WAIT_S:.0f} seconds, not {after!r}")
        super().__init__(reason or "asked for a retry")
        self.after_ms = None if seconds is None else round(seconds * 1000)


class Discard(Exception):
    """Raised by a callable: this run is not to be tried again. It ends as ``cancelled``, with the reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "discarded by its callable")


class Cancelled(Exception):
    """Raised by a callable that ends because it was asked to. Its run ends as ``cancelled``."""


def cancel_requested() -> bool:
    """Whether somebody asked for the end of the run that is going on here; False outside of runs.

    Coroutines are cancelled, and process runs killed; a plain function in a thread has to look here from time to time, and to
    raise ``Cancelled``.
    """
    run = context.current_run.get()
    return run is not None and run.cancelled.is_set()


def report_progress(text: str) -> None:
    """Notes how far the run that is going on here has come, at most 500 characters; shown while it runs.

    Speaks to Redis, so a coroutine calls it with ``asyncio.to_thread``. Raises StaleToken when the run lost its lease,
    TaskError outside of runs or for a text that is too long.
    """
    run = context.current_run.get()
    if run is None:
        raise TaskError("report_progress is for callables that a worker runs")
    if not isinstance(text, str) or len(text) > _LONGEST_PROGRESS:
        raise TaskError(f"progress is text of at most {_LONGEST_PROGRESS} characters")
    session = context.session()
    partition = session.space.partition_of(run.task_id)
    call = calls.note_progress(partition, run.boot, run.run_id, run.token, " ".join(text.split()))
    (is_noted,) = session.transport.execute([call])
    if not is_noted:
        raise StaleToken(f"run {run.run_id} lost its lease or has ended: its writes are refused")
