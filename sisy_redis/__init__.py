"""Cron for fleets, on nothing but Redis: sisy's tasks, and a plain face for new code."""

from importlib.metadata import PackageNotFoundError, version

from sisy_redis.control import Cancelled, Discard, Retry, cancel_requested, report_progress
from sisy_redis.definitions import DstRule, Keep, Misfire, Overlap, Pool, RetryPolicy, Wait, WaitKind
from sisy_redis.errors import (
    CallableError,
    ConflictError,
    DoesNotExist,
    MultipleObjectsReturned,
    NotAcknowledged,
    RedisUnavailable,
    ScheduleError,
    SettingsError,
    SignatureError,
    SisyError,
    StaleToken,
    TaskBusy,
    TaskError,
    UserdataError,
)
from sisy_redis.models import (
    DEFAULT_SCHEDULE,
    FAR_FUTURE,
    HAS_NOT_RUN,
    Task,
    func_from_string,
    funcinfo_from_string,
    task_with_callable,
    taskinfo_with_label,
)
from sisy_redis.planning import upcoming
from sisy_redis.retry import Retrying
from sisy_redis.scheduler import AsyncScheduler, DeadRun, Explanation, Finding, OpenRun, Scheduler, TaskView, define
from sisy_redis.settings import configure

__all__ = [
    "DEFAULT_SCHEDULE",
    "FAR_FUTURE",
    "HAS_NOT_RUN",
    "AsyncScheduler",
    "CallableError",
    "Cancelled",
    "ConflictError",
    "DeadRun",
    "Discard",
    "DoesNotExist",
    "DstRule",
    "Explanation",
    "Finding",
    "Misfire",
    "Keep",
    "MultipleObjectsReturned",
    "NotAcknowledged",
    "OpenRun",
    "Overlap",
    "Pool",
    "RedisUnavailable",
    "Retry",
    "RetryPolicy",
    "Retrying",
    "ScheduleError",
    "Scheduler",
    "SettingsError",
    "SignatureError",
    "SisyError",
    "StaleToken",
    "Task",
    "TaskBusy",
    "TaskError",
    "TaskView",
    "UserdataError",
    "Wait",
    "WaitKind",
    "__version__",
    "cancel_requested",
    "configure",
    "define",
    "func_from_string",
    "funcinfo_from_string",
    "report_progress",
    "task_with_callable",
    "taskinfo_with_label",
    "upcoming",
]

try:
    __version__ = version("sisy-redis")
except PackageNotFoundError:
    # A bare checkout on the path.
    __version__ = "0+unknown"
