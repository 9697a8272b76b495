"""One tree of errors. Input errors are also ``ValueError`` so that callers of sisy keep working."""

from typing import Any

__all__ = [
    "CallableError",
    "ConflictError",
    "DoesNotExist",
    "MultipleObjectsReturned",
    "NotAcknowledged",
    "RedisUnavailable",
    "ScheduleError",
    "SettingsError",
    "SignatureError",
    "SisyError",
    "StaleToken",
    "TaskBusy",
    "TaskError",
    "UserdataError",
]


class SisyError(Exception):
    """Everything this package raises on purpose."""


class TaskError(SisyError, ValueError):
    """A task was given a value it cannot have; nothing was stored."""


class ScheduleError(TaskError):
    """A schedule that cannot be read, never fires, or names an unknown time zone."""


class CallableError(TaskError):
    """A callable that cannot be found, called, or stored by its dotted path."""


class UserdataError(TaskError):
    """Userdata that would not come back unchanged, or is too large."""


class SettingsError(SisyError, ValueError):
    """A setting that is unknown, has the wrong type, or lies outside its bounds."""


class SignatureError(SisyError):
    """A stored task is not signed with a known key, so it is not built upon; save its full definition to replace it."""


class DoesNotExist(SisyError, LookupError):
    """No task has this id or label."""


class MultipleObjectsReturned(SisyError, LookupError):
    """More than one task has this label."""


class ConflictError(SisyError):
    """The task was changed, or deleted and created again, since it was loaded; refresh it and repeat the change."""


class StaleToken(SisyError):
    """This run lost its lease, so its writes are refused."""


class TaskBusy(SisyError):
    """The task forbids overlap and has an open run, so an extra run cannot start now."""


class RedisUnavailable(SisyError):
    """Redis cannot be reached, or refuses to work at the moment."""


class NotAcknowledged(SisyError):
    """It is stored, but fewer replicas than ``wait_replicas`` confirmed it in time: a failover may lose it.

    Saving again is harmless, and asks the replicas again. ``answer`` is what the primary answered.
    """

    def __init__(self, answer: Any, acknowledged: int, wanted: int) -> None:
        super().__init__(
            f"stored, but acknowledged by {acknowledged} of {wanted} replicas in time: a failover may lose it; "
            "check the replicas and repeat the call"
        )
        self.answer, self.acknowledged, self.wanted = answer, acknowledged, wanted
