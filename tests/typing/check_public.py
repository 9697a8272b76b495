"""Every public name as a type checker must see it; mypy --strict reads this file, nothing runs it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import sisy_redis
from sisy_redis import (
    DEFAULT_SCHEDULE,
    FAR_FUTURE,
    HAS_NOT_RUN,
    AsyncScheduler,
    CallableError,
    Cancelled,
    ConflictError,
    DeadRun,
    Discard,
    DoesNotExist,
    DstRule,
    Explanation,
    Finding,
    Keep,
    Misfire,
    MultipleObjectsReturned,
    NotAcknowledged,
    OpenRun,
    Overlap,
    Pool,
    RedisUnavailable,
    Retry,
    Retrying,
    RetryPolicy,
    ScheduleError,
    Scheduler,
    SettingsError,
    SignatureError,
    SisyError,
    StaleToken,
    Task,
    TaskBusy,
    TaskError,
    TaskView,
    UserdataError,
    Wait,
    WaitKind,
    cancel_requested,
    configure,
    define,
    func_from_string,
    funcinfo_from_string,
    report_progress,
    task_with_callable,
    taskinfo_with_label,
    upcoming,
)

ERRORS: tuple[type[SisyError], ...] = (
    CallableError,
    ConflictError,
    DoesNotExist,
    MultipleObjectsReturned,
    NotAcknowledged,
    RedisUnavailable,
    ScheduleError,
    SettingsError,
    SignatureError,
    StaleToken,
    TaskBusy,
    TaskError,
    UserdataError,
)
INPUT_ERRORS: tuple[type[ValueError], ...] = (TaskError, CallableError, ScheduleError, UserdataError, SettingsError)
scheduler = Scheduler("redis://localhost", "sisy")


@scheduler.task(schedule="*/5 9-17 * * mon-fri", tz="Europe/Berlin", allow_overlap=False)
def decorated(a: int) -> str:
    return str(a)


@AsyncScheduler().task(every=timedelta(hours=1), anchor=datetime(2020, 1, 1, tzinfo=UTC), queue="q", pool=Pool.PROCESS)
async def awaited(message: dict[str, Any]) -> None:
    return None


def check_constants() -> None:
    assert_type(DEFAULT_SCHEDULE, str)
    assert_type(HAS_NOT_RUN, datetime)
    assert_type(FAR_FUTURE, datetime)
    assert_type(sisy_redis.__version__, str)
    assert_type(upcoming("* * * * *", tz="UTC", after=None, n=5), list[datetime])
    configure(redis_url="redis://localhost", namespace="sisy", secret_key="0123456789abcdef")


def check_control() -> None:
    assert_type(cancel_requested(), bool)
    report_progress("half")
    kinds: tuple[type[Exception], ...] = (Retry, Discard, Cancelled)
    assert kinds
    assert_type(Retrying(3, 1, on=ValueError, never=["a.B"]), RetryPolicy)
    raise Retry("later", after=timedelta(seconds=1))


def check_task() -> None:
    task = task_with_callable("a.b", "label", "* * * * *", {"a": 1}, None, tz="UTC", retry=RetryPolicy(attempts=2))
    assert_type(task, Task)
    assert_type(task.id, str)
    assert_type(task.pk, str)
    assert_type(task.label, str)
    assert_type(task.schedule, str)
    assert_type(task.userdata, dict[str, Any])
    assert_type(task.next_run, datetime)
    assert_type(task.last_run, datetime)
    assert_type(task.created_at, datetime | None)
    assert_type(task.running, bool)
    assert_type(task.iterations_left, int | None)
    assert_type(task.run_asap(), str)
    assert_type(task.explain(), Explanation)
    assert_type(task.allow_overlap, bool)
    task.overlap, task.keep, task.max_running = "buffer_one", Keep.LATEST, 2
    assert_type(task.calc_next_run(), datetime)
    assert_type(task.func_from_info(), Callable[..., Any])
    assert_type(Task.objects.get(id="a"), Task)
    assert_type([each for each in Task.objects.filter(label="a")], list[Task])
    assert_type(Task.objects.all().first(), Task | None)
    assert_type(Task.run_once("a.b"), Task)
    assert_type(Task.run_iterations("a.b", 3), Task)
    assert_type(func_from_string("a.b"), Callable[..., Any])
    assert_type(funcinfo_from_string("a.b"), dict[str, Any])
    assert_type(taskinfo_with_label("a"), dict[str, Any])
    task_with_callable("a.b", misfire=Misfire.ALL, dst=DstRule.SKIP, overlap=Overlap.SKIP, timeout=5)
    task_with_callable("a.b", colour="red")  # type: ignore[call-arg]


def check_scheduler() -> None:
    assert_type(decorated(1), str)
    assert_type(scheduler.save("a.b", schedule="* * * * *"), TaskView)
    assert_type(scheduler.get("a"), TaskView)
    assert_type(scheduler.find("a"), list[TaskView])
    assert_type(scheduler.delete("a"), bool)
    assert_type(scheduler.trigger("a"), str)
    assert_type(scheduler.upcoming("a", 3), list[datetime])
    assert_type(scheduler.runs("a"), list[OpenRun])
    assert_type(scheduler.backfill("a", HAS_NOT_RUN, FAR_FUTURE), str)
    assert_type(scheduler.cancel("a:1:2"), str)
    assert_type(scheduler.explain("a", HAS_NOT_RUN), Explanation)
    assert_type(scheduler.dead(), list[DeadRun])
    assert_type(scheduler.requeue("a:1:2"), str)
    assert_type(scheduler.bury(["a:1:2"]), int)
    assert_type(scheduler.purge(timedelta(days=1)), dict[str, int])
    assert_type(scheduler.examine(fix=True), list[Finding])
    scheduler.save_many([define("a.b", id="a")])
    scheduler.pause("a", until=FAR_FUTURE)
    scheduler.skip_next("a", 2)
    scheduler.maintenance(FAR_FUTURE)
    scheduler.end_maintenance()
    scheduler.save("a.b", retry={"attempts": 3, "wait": Wait(kind=WaitKind.FIXED)})
    scheduler.save("a.b", colour="red")  # type: ignore[call-arg]


async def check_async() -> None:
    async with AsyncScheduler() as opened:
        assert_type(await opened.save("a.b", schedule="* * * * *"), TaskView)
        assert_type(await opened.save_many([]), list[str])
    await awaited({})
