"""sisy's face: its reference line by line, and every error it promises."""

import inspect
import json
import os
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import face_tasks
import pytest
from hand_worker import HandWorker
from waiting import poll

import sisy_redis
from sisy_redis import clock, context, queries, settings
from sisy_redis.errors import (
    CallableError,
    ConflictError,
    DoesNotExist,
    MultipleObjectsReturned,
    ScheduleError,
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

SEND = "face_tasks.send"


@pytest.fixture(autouse=True)
def configured(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SISY_HEARTBEAT_FREQUENCY", "SISY_DEFAULT_SCHEDULE", "SISY_TIME_ZONE", "SISY_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    settings.configure(redis_url=redis_url, namespace=namespace)
    yield
    context.close()
    settings.configure(
        redis_url=None, namespace=None, default_schedule=None, time_zone=None, heartbeat_frequency=None, partitions=None
    )


@pytest.fixture
def worker(configured: None) -> HandWorker:
    session = context.session()
    return HandWorker(session.space, session.transport)


def later(seconds: float = 3600) -> datetime:
    return clock.from_ms(clock.wall_ms()) + timedelta(seconds=seconds)


def saved(**fields: Any) -> Task:
    task = task_with_callable(face_tasks.send, **fields)
    task.save()
    return task


def loaded(task: Task) -> Task:
    return Task.objects.get(id=task.id)


def keys(client: Any) -> int:
    return int(client.dbsize())


# --- task_with_callable ----------------------------------------------------------------------------------------------


def test_task_with_callable_has_the_signature_of_the_reference() -> None:
    parameters = inspect.signature(task_with_callable).parameters
    assert list(parameters) == ["the_callable", "label", "schedule", "userdata", "pk_override", "fields"]
    assert [p.default for p in list(parameters.values())[1:5]] == [None, DEFAULT_SCHEDULE, None, None]


def test_a_task_takes_a_callable_object() -> None:
    task = task_with_callable(face_tasks.send)
    assert (task.label, task.schedule, task.userdata) == (SEND, "* * * * *", {})


def test_a_task_takes_a_dotted_path() -> None:
    assert task_with_callable(SEND).funcinfo == task_with_callable(face_tasks.send).funcinfo


@pytest.mark.parametrize(
    ("the_callable", "func_type", "class_name"),
    [
        (face_tasks.send, "function", None),
        (face_tasks.poll, "function", None),
        (face_tasks.Report.weekly, "classmethod", "Report"),
        ("face_tasks.Report.daily", "staticmethod", "Report"),
    ],
)
def test_funcinfo_says_what_the_callable_is(the_callable: Any, func_type: str, class_name: str | None) -> None:
    task = task_with_callable(the_callable)
    info = task.funcinfo
    assert info["func_type"] == func_type
    assert info["module_name"] == "face_tasks"
    assert info.get("class_name") == class_name
    assert info.get("class_path") == (f"face_tasks.{class_name}" if class_name else None)
    assert info["func_path"] == task.label
    assert json.loads(task._func_info) == info
    task.save()
    assert loaded(task).funcinfo == info


def test_a_task_is_inactive_until_saved(client: Any) -> None:
    task = task_with_callable(face_tasks.send)
    assert list(Task.objects.all()) == []
    task.save()
    assert list(Task.objects.all()) == [task]


def test_the_default_schedule_is_resolved_when_called() -> None:
    settings.configure(default_schedule="*/7 * * * *")
    assert task_with_callable(face_tasks.send).schedule == "*/7 * * * *"
    assert Task().schedule == "*/7 * * * *"
    assert str(DEFAULT_SCHEDULE) == f"{DEFAULT_SCHEDULE}" == "*/7 * * * *"
    settings.configure(default_schedule="*/8 * * * *")
    assert task_with_callable(face_tasks.send).schedule == "*/8 * * * *"
    assert task_with_callable(face_tasks.send, schedule="* * * * *").schedule == "* * * * *"


def test_a_task_given_no_userdata_or_dict_gets_a_new_empty_dict() -> None:
    first, second = task_with_callable(face_tasks.send), task_with_callable(face_tasks.send, userdata=dict)  # type: ignore[arg-type]
    first.userdata["a"] = 1
    assert second.userdata == {}


def test_userdata_comes_back_and_tuples_become_lists() -> None:
    given = {"a": [1, 2.5, None, True, "ü"], "b": {"c": (1, 2)}}
    task = saved(userdata=given)
    assert loaded(task).userdata == {"a": [1, 2.5, None, True, "ü"], "b": {"c": [1, 2]}}
    assert json.loads(task._extra_data) == loaded(task).userdata


def test_a_coroutine_and_a_callable_with_parameters_can_be_tasks() -> None:
    task_with_callable(face_tasks.poll).save()
    task_with_callable(face_tasks.add, userdata={"a": 1}).save()


@pytest.mark.parametrize(
    ("the_callable", "text"),
    [
        ("send", "Need full dotted path to task function"),
        ("", "Need full dotted path to task function"),
        ("no_such_module_x.send", "Module no_such_module_x not found"),
        ("face_tasks.nothing", "nothing is not a member of face_tasks"),
        ("face_tasks", "Need full dotted path|Cannot call module directly"),
        (face_tasks, "Cannot call module directly"),
        ("face_tasks.Report", "Cannot call class directly"),
        (face_tasks.Report, "Cannot call class directly"),
        ("face_tasks.not_callable", "is not a callable object"),
        (7, "is not a callable object"),
        (face_tasks.a_lambda, "lambda"),
        (face_tasks.Report.unbound, "instance method"),
        ("face_tasks.Report.unbound", "instance method"),
        (face_tasks.add, "cannot be called with"),
    ],
)
def test_a_callable_no_worker_could_call_is_refused(the_callable: Any, text: str, client: Any) -> None:
    before = keys(client)
    with pytest.raises(ValueError, match=text) as caught:
        task_with_callable(the_callable)
    assert isinstance(caught.value, sisy_redis.SisyError)
    assert keys(client) == before


def test_a_closure_is_refused() -> None:
    def inner(message: Any) -> None:
        pass

    with pytest.raises(CallableError, match="closure"):
        task_with_callable(inner)


@pytest.mark.parametrize("pk", [1, "one", uuid.UUID(int=1)])
def test_pk_override_without_an_instance_method_is_refused(pk: Any) -> None:
    with pytest.raises(ValueError, match="pk_override"):
        task_with_callable(SEND, pk_override=pk)


@pytest.mark.parametrize("userdata", ["text", [1], {"a": object()}, {1: 2}, {"a": float("nan")}, {"a": "x" * 70_000}])
def test_userdata_that_would_not_come_back_is_refused(userdata: Any) -> None:
    with pytest.raises(ValueError, match="Userdata must be a dictionary of JSON-serializable data"):
        task_with_callable(face_tasks.send, userdata=userdata)


def test_the_error_names_the_key_of_bad_userdata() -> None:
    with pytest.raises(UserdataError, match=r"a\.b"):
        task_with_callable(face_tasks.send, userdata={"a": {"b": {1, 2}}})


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("61 * * * *", "minute"),
        ("* 25 * * *", "hour"),
        ("* * 32 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * 9", "day-of-week"),
        ("* * * * * 60", "second"),
        ("* * *", "fields"),
        ("0 0 30 2 *", "never fires"),
        ("* " * 200, "256"),
        ("@sometimes", "alias"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_naming_the_field(schedule: str, text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        task_with_callable(face_tasks.send, schedule=schedule)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tz": "Mars/Base"}, "time zone"),
        ({"iterations": -1}, "iterations"),
        ({"iterations": True}, "iterations"),
        ({"iterations": 1.5}, "iterations"),
        ({"label": "x" * 256}, "too long"),
        ({"label": "a\nb"}, "control"),
        ({"label": 7}, "label"),
        ({"enabled": 1}, "enabled"),
        ({"allow_overlap": "no"}, "allow_overlap"),
        ({"start_running": datetime(2100, 1, 1)}, "aware"),
        ({"end_running": datetime(2100, 1, 1)}, "aware"),
        ({"start_running": "tomorrow"}, "datetime"),
        ({"start_running": datetime(1960, 1, 1, tzinfo=UTC)}, "Task cannot start running in the past"),
        ({"queue": "a b"}, "queue"),
        ({"timeout": -1}, "timeout"),
        ({"pool": "gpu"}, "pool"),
        ({"retry": "often"}, "retry"),
        ({"misfire": "never"}, "misfire"),
        ({"dst": "maybe"}, "dst"),
        ({"jitter": timedelta(hours=1)}, "jitter"),
        ({"max_catchup": 0}, "max_catchup"),
        ({"schedule": 5}, "schedule"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task_with_callable(face_tasks.send, **fields)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        task_with_callable(face_tasks.send, colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="colour"):
        Task(colour="red")  # type: ignore[call-arg]


# --- Task: fields ----------------------------------------------------------------------------------------------------


def test_the_public_fields_have_sisys_defaults() -> None:
    task = Task()
    assert task.schedule == "* * * * *"
    assert task.enabled is True
    assert task.start_running == HAS_NOT_RUN
    assert task.end_running == FAR_FUTURE
    assert task.wait_for_schedule is True
    assert task.iterations == 0
    assert task.allow_overlap is True


def test_the_internal_fields_have_sisys_defaults() -> None:
    task = task_with_callable(face_tasks.send)
    assert task.last_run == HAS_NOT_RUN == datetime(1970, 1, 1, tzinfo=UTC)
    assert datetime(2217, 12, 31, 23, 59, tzinfo=UTC) == FAR_FUTURE
    assert task.running is False
    assert task.created_at is None
    assert task.pk == task.id
    assert task.next_run == HAS_NOT_RUN


def test_a_saved_task_has_its_times_by_the_servers_clock() -> None:
    task = saved()
    assert task.created_at is not None
    assert task.modified_at == task.created_at
    assert abs(task.created_at - later(0)) < timedelta(seconds=5)
    assert later(0) < task.next_run <= later(60)
    assert task.next_run.utcoffset() == timedelta(0)
    assert task.last_run == HAS_NOT_RUN
    assert task.running is False


def test_unknown_attributes_are_refused() -> None:
    task = saved()
    for name in (
        "colour",
        "next_run",
        "last_run",
        "running",
        "id",
        "pk",
        "created_at",
        "iterations_left",
        "_func_info",
    ):
        with pytest.raises(AttributeError):
            setattr(task, name, 1)


def test_a_task_without_a_callable_cannot_be_saved() -> None:
    with pytest.raises(TaskError, match="no callable"):
        Task(label="a").save()


def test_a_task_can_be_given_its_callable_by_funcinfo() -> None:
    task = Task(iterations=3)
    task.funcinfo = funcinfo_from_string(SEND)
    task.save()
    assert loaded(task).label == SEND
    assert loaded(task).func_from_info() is face_tasks.send


def test_every_field_survives_saving_and_loading() -> None:
    fields: dict[str, Any] = {
        "enabled": False,
        "start_running": later().replace(microsecond=0),
        "end_running": later(90_000).replace(microsecond=0),
        "wait_for_schedule": False,
        "iterations": 7,
        "allow_overlap": False,
        "tz": "Europe/Berlin",
        "dst": "skip",
        "queue": "mail",
        "timeout": timedelta(seconds=30),
        "pool": "process",
        "jitter": timedelta(seconds=3),
        "misfire": "all",
        "misfire_grace": timedelta(seconds=5),
        "catchup_window": timedelta(hours=2),
        "max_catchup": 9,
    }
    task = loaded(saved(label="all of them", schedule="0 * * * *", retry=(3, 10), **fields))
    assert {name: getattr(task, name) for name in fields} == fields
    assert (task.label, task.schedule) == ("all of them", "0 * * * *")
    assert task.retry.attempts == 3


def test_the_time_zone_defaults_to_the_setting() -> None:
    settings.configure(time_zone="Asia/Tokyo")
    assert task_with_callable(face_tasks.send).tz == "Asia/Tokyo"


# --- save ------------------------------------------------------------------------------------------------------------


def test_a_changed_schedule_moves_next_run() -> None:
    task = saved(schedule="0 0 1 1 *")
    before = task.next_run
    task.schedule = "* * * * *"
    task.save()
    assert task.next_run < before or before < later(120)
    assert loaded(task).next_run == task.next_run
    assert task.modified_at is not None and task.created_at is not None
    assert task.modified_at >= task.created_at


def test_every_public_field_can_be_changed_and_saved() -> None:
    task = saved()
    task.label, task.schedule, task.enabled, task.iterations = "new", "*/5 * * * *", False, 4
    task.allow_overlap, task.end_running = False, later(7200).replace(microsecond=0)
    task.save()
    other = loaded(task)
    assert (other.label, other.schedule, other.enabled, other.iterations) == ("new", "*/5 * * * *", False, 4)
    assert (other.allow_overlap, other.end_running) == (False, task.end_running)
    assert other.next_run == FAR_FUTURE
    assert [t.id for t in Task.objects.filter(label="new")] == [task.id]
    assert list(Task.objects.filter(label=SEND)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("schedule", "61 * * * *"), ("iterations", -1), ("label", "x" * 256), ("end_running", datetime(2100, 1, 1))],
)
def test_save_repeats_every_check(name: str, value: Any) -> None:
    task = saved()
    before = loaded(task).modified_at
    setattr(task, name, value)
    with pytest.raises(TaskError):
        task.save()
    assert loaded(task).modified_at == before


def test_save_checks_userdata_again() -> None:
    task = saved()
    task.userdata["bad"] = object()
    with pytest.raises(UserdataError, match="bad"):
        task.save()
    other = task_with_callable(face_tasks.add, userdata={"a": 1})
    other.save()
    other.userdata["c"] = 2
    with pytest.raises(CallableError, match="cannot be called"):
        other.save()


def test_in_place_changes_of_userdata_are_saved() -> None:
    task = saved(userdata={"list": [1]})
    data = task.userdata
    data["list"].append(2)
    data["more"] = {"a": 1}
    task.save()
    assert loaded(task).userdata == {"list": [1, 2], "more": {"a": 1}}
    data["more"]["a"] = 2
    task.save()
    assert loaded(task).userdata["more"] == {"a": 2}
    assert task.userdata is data


def test_a_change_of_type_alone_is_saved() -> None:
    task = saved(userdata={"n": 1})
    task.userdata["n"] = True
    task.save()
    assert loaded(task).userdata["n"] is True


def test_writers_of_different_fields_do_not_undo_each_other() -> None:
    task = saved(userdata={"n": 1})
    mine, theirs = loaded(task), loaded(task)
    theirs.schedule = "*/9 * * * *"
    theirs.save()
    mine.userdata["n"] = 2
    mine.save()
    assert (mine.schedule, mine.userdata) == ("*/9 * * * *", {"n": 2})
    assert (loaded(task).schedule, loaded(task).userdata) == ("*/9 * * * *", {"n": 2})


def test_writers_of_the_same_field_conflict() -> None:
    task = saved()
    mine, theirs = loaded(task), loaded(task)
    theirs.schedule = "*/9 * * * *"
    theirs.save()
    mine.schedule = "*/8 * * * *"
    with pytest.raises(ConflictError, match="schedule"):
        mine.save()
    assert loaded(task).schedule == "*/9 * * * *"
    mine.refresh()
    mine.schedule = "*/8 * * * *"
    mine.save()
    assert loaded(task).schedule == "*/8 * * * *"


def test_a_save_that_changes_nothing_writes_nothing() -> None:
    task = saved()
    before = task.modified_at
    task.save()
    assert loaded(task).modified_at == before


def test_a_deleted_task_is_gone() -> None:
    task = saved()
    other = loaded(task)
    task.delete()
    for action in (other.save, other.refresh, other.run_asap):
        other.userdata["n"] = 1
        with pytest.raises(Task.DoesNotExist):
            action()
    other.delete()
    with pytest.raises(Task.DoesNotExist):
        Task.objects.get(id=task.id)
    with pytest.raises(TaskError, match="not saved"):
        task.delete()


def test_a_deleted_task_can_be_saved_again() -> None:
    task = saved(iterations=2)
    created = task.created_at
    task.delete()
    task.save()
    assert loaded(task).created_at != created


def test_refresh_loads_what_others_saved() -> None:
    task = saved()
    other = loaded(task)
    other.label = "theirs"
    other.save()
    task.enabled = False
    task.refresh()
    assert (task.label, task.enabled) == ("theirs", True)


def test_the_wait_for_schedule_field_acts_on_the_first_save_only(worker: HandWorker) -> None:
    task = saved(schedule="0 0 1 1 *", wait_for_schedule=False)
    (attempt,) = worker.claim()
    assert worker.settle(attempt)
    task.label = "changed"
    task.save()
    task.schedule = "0 0 2 1 *"
    task.save()
    assert worker.claim() == ()


def test_start_and_end_bound_the_task() -> None:
    start = datetime(2100, 1, 1, tzinfo=UTC)
    task = saved(schedule="0 * * * *", start_running=start, end_running=start + timedelta(hours=1))
    assert task.next_run == start
    with pytest.raises(TaskError, match="end_running must be later"):
        task_with_callable(face_tasks.send, start_running=start, end_running=start)
    with pytest.raises(TaskError, match="never fires"):
        task_with_callable(
            face_tasks.send,
            schedule="0 * * * *",
            start_running=start + timedelta(minutes=1),
            end_running=start + timedelta(hours=1),
        )


def test_a_start_or_end_in_the_past_is_refused() -> None:
    with pytest.raises(TaskError, match="Task cannot start running in the past"):
        saved(start_running=later(-60))
    with pytest.raises(TaskError, match="past"):
        saved(end_running=later(-60))
    assert not Task.objects.all().exists()


def test_a_start_that_has_passed_since_does_not_hinder_saving() -> None:
    task = saved(start_running=later(0.2))
    poll(lambda: later(-1.1) > task.start_running)
    task.label = "changed"
    task.save()
    assert loaded(task).label == "changed"


# --- the run's view --------------------------------------------------------------------------------------------------


def run_of(task: Task, worker: HandWorker) -> tuple[Task, context.RunContext, Any]:
    task.run_asap()
    (attempt,) = worker.claim()
    run = context.RunContext(
        run_id=attempt.run_id, token=attempt.token, boot=worker.boot, task_id=task.id, session=context.session()
    )
    return Task.from_stored(attempt.stored), run, attempt


def test_a_run_saves_the_userdata_of_its_task(worker: HandWorker) -> None:
    task, run, attempt = run_of(saved(schedule="0 0 1 1 *"), worker)
    marker = context.current_run.set(run)
    try:
        assert task.running is True
        task.userdata["seen"] = 1
        task.save()
    finally:
        context.current_run.reset(marker)
    assert worker.settle(attempt)
    assert loaded(task).userdata == {"seen": 1}


def test_a_save_by_a_run_with_a_stale_token_is_refused(worker: HandWorker) -> None:
    task, run, attempt = run_of(saved(schedule="0 0 1 1 *"), worker)
    assert worker.settle(attempt)
    marker = context.current_run.set(run)
    try:
        task.userdata["seen"] = 1
        with pytest.raises(StaleToken):
            task.save()
    finally:
        context.current_run.reset(marker)
    assert loaded(task).userdata == {}


def test_a_run_may_save_other_tasks(worker: HandWorker) -> None:
    _, run, attempt = run_of(saved(schedule="0 0 1 1 *"), worker)
    assert worker.settle(attempt)
    marker = context.current_run.set(run)
    try:
        other = saved(label="other")
        other.userdata["n"] = 1
        other.save()
    finally:
        context.current_run.reset(marker)
    assert loaded(other).userdata == {"n": 1}


def test_running_last_run_and_iterations_left_follow_the_runs(worker: HandWorker) -> None:
    task = saved(schedule="0 0 1 1 *", wait_for_schedule=False, iterations=3)
    assert (task.iterations, task.iterations_left, task.running) == (3, 3, False)
    (attempt,) = worker.claim()
    task.refresh()
    assert (task.iterations, task.iterations_left, task.running) == (3, 2, True)
    assert task.last_run == clock.from_ms(attempt.nominal_ms)
    assert worker.settle(attempt)
    task.refresh()
    assert (task.iterations, task.iterations_left, task.running) == (3, 2, False)
    assert task.last_run == clock.from_ms(attempt.nominal_ms)
    task.save()
    assert task.iterations_left == 2


# --- run_iterations, run_once, run_asap ------------------------------------------------------------------------------


def test_run_iterations_has_the_signature_of_the_reference() -> None:
    parameters = inspect.signature(Task.run_iterations).parameters
    assert {name: p.default for name, p in parameters.items() if p.default is not p.empty} == {
        "iterations": 1,
        "label": None,
        "schedule": "* * * * * *",
        "userdata": dict,
        "run_immediately": False,
        "delay_until": None,
    }
    assert list(parameters)[0] == "the_callable"


def test_run_once_has_the_signature_of_the_reference() -> None:
    parameters = inspect.signature(Task.run_once).parameters
    assert list(parameters) == ["the_callable", "userdata", "delay_until"]
    assert parameters["userdata"].default is dict


def test_run_iterations_saves_and_returns_the_task() -> None:
    task = Task.run_iterations(face_tasks.send, iterations=5, label="five", userdata={"a": 1})
    assert loaded(task) == task
    assert (task.label, task.iterations, task.iterations_left, task.userdata) == ("five", 5, 5, {"a": 1})


def planned_gap_ms(task: Task) -> int:
    session = context.session()
    (state,) = session.transport.run(sisy_redis.models.queries.load_states(session.space, [task.id]))
    assert state.plan is not None
    first = state.plan.plan.segments[0]
    return first.step_ms if first.step_ms else state.plan.plan.segments[1].first_ms - first.first_ms


def test_run_iterations_without_a_schedule_fires_once_per_minute() -> None:
    task = Task.run_iterations(face_tasks.send, iterations=5)
    assert planned_gap_ms(task) == 60_000
    again = loaded(task)
    again.label = "changed"
    again.save()
    again.wait_for_schedule = False
    again.iterations = 6
    again.save()
    assert planned_gap_ms(again) == 60_000


def test_an_explicit_schedule_of_every_second_fires_every_second() -> None:
    task = Task.run_iterations(face_tasks.send, iterations=5, schedule="* * * * * *")
    assert planned_gap_ms(task) == 1000
    implied = Task.run_iterations(face_tasks.send, iterations=5)
    implied.schedule = "* * * * * *"
    implied.save()
    assert planned_gap_ms(implied) == 1000


def test_the_heartbeat_is_the_least_gap_of_any_task_saved_under_it() -> None:
    settings.configure(heartbeat_frequency=10)
    assert planned_gap_ms(Task.run_iterations(face_tasks.send, iterations=5)) == 10_000
    assert planned_gap_ms(saved(schedule="* * * * * *")) == 10_000
    task = saved(schedule="* * * * * */5")
    assert planned_gap_ms(task) == 10_000
    settings.configure(heartbeat_frequency=None)
    other = loaded(task)
    other.label = "changed"
    other.save()
    assert planned_gap_ms(other) == 10_000


def test_run_immediately_runs_the_first_iteration_at_once(worker: HandWorker) -> None:
    Task.run_iterations(face_tasks.send, iterations=2, schedule="0 0 1 1 *", run_immediately=True)
    assert len(worker.claim()) == 1


def test_run_immediately_with_delay_until_runs_exactly_then() -> None:
    then = later().replace(microsecond=0)
    task = Task.run_iterations(
        face_tasks.send, iterations=2, schedule="0 0 1 1 *", run_immediately=True, delay_until=then
    )
    assert (task.next_run, task.start_running) == (then, then)


def test_run_iterations_with_delay_until_waits_for_the_schedule_after_it() -> None:
    task = Task.run_iterations(
        face_tasks.send, iterations=2, schedule="0 0 1 1 *", delay_until=datetime(2100, 3, 1, tzinfo=UTC)
    )
    assert task.next_run == datetime(2101, 1, 1, tzinfo=UTC)


def test_run_once_is_due_at_once_and_only_once(worker: HandWorker) -> None:
    task = Task.run_once(face_tasks.send, userdata={"a": 1})
    assert (task.iterations, task.userdata) == (1, {"a": 1})
    (attempt,) = worker.claim()
    assert attempt.stored.definition.userdata == {"a": 1}
    assert worker.settle(attempt)
    assert worker.claim() == ()
    with pytest.raises(DoesNotExist):
        task.refresh()


def test_run_once_with_delay_until_is_due_exactly_then() -> None:
    then = later().replace(microsecond=250_000)
    assert Task.run_once(face_tasks.send, delay_until=then).next_run == then


@pytest.mark.parametrize("run", [Task.run_once, Task.run_iterations])
def test_delay_until_must_be_aware_and_in_the_future(run: Any) -> None:
    for when, text in [
        (datetime(2100, 1, 1), "aware"),
        (later(-60), "Task cannot start running in the past"),
        (HAS_NOT_RUN, "Task cannot start running in the past"),
        (datetime(1960, 1, 1, tzinfo=UTC), "Task cannot start running in the past"),
        ("tomorrow", "datetime"),
    ]:
        with pytest.raises(TaskError, match=text):
            run(face_tasks.send, delay_until=when)
    assert Task.objects.count() == 0


def test_run_asap_runs_now_and_costs_an_iteration(worker: HandWorker) -> None:
    task = saved(schedule="0 0 1 1 *", iterations=2)
    run_id = task.run_asap()
    assert task.running is True
    assert task.iterations_left == 1
    (attempt,) = worker.claim()
    assert attempt.run_id == run_id


def test_run_asap_keeps_to_allow_overlap() -> None:
    task = saved(schedule="0 0 1 1 *", allow_overlap=False)
    task.run_asap()
    with pytest.raises(TaskBusy):
        task.run_asap()


def test_run_asap_and_refresh_need_a_saved_task() -> None:
    task = task_with_callable(face_tasks.send)
    for action in (task.run_asap, task.refresh, task.delete):
        with pytest.raises(TaskError, match="not saved"):
            action()


def test_calc_next_run_computes_and_stores_nothing() -> None:
    task = task_with_callable(face_tasks.send, schedule="0 0 1 1 *")
    assert task.calc_next_run() == datetime(later(0).year + 1, 1, 1, tzinfo=UTC)
    assert task.next_run == HAS_NOT_RUN
    task.tz = "Asia/Tokyo"
    assert task.calc_next_run().astimezone(UTC).hour == 15


# --- Task.objects ----------------------------------------------------------------------------------------------------


def test_objects_get_finds_by_id_pk_or_label() -> None:
    task = saved(label="one")
    assert Task.objects.get(id=task.id) == Task.objects.get(pk=task.id) == Task.objects.get(label="one") == task
    with pytest.raises(Task.DoesNotExist):
        Task.objects.get(label="none")
    with pytest.raises(TypeError):
        Task.objects.get()
    with pytest.raises(TypeError, match="colour"):
        Task.objects.get(colour="red")


def test_labels_may_repeat() -> None:
    first, second = saved(label="two"), saved(label="two")
    assert set(Task.objects.filter(label="two")) == {first, second}
    with pytest.raises(Task.MultipleObjectsReturned):
        Task.objects.get(label="two")
    assert issubclass(Task.MultipleObjectsReturned, MultipleObjectsReturned)


def test_filter_takes_public_fields() -> None:
    saved(label="a")
    off = saved(label="b", enabled=False)
    mail = saved(label="c", queue="mail")
    assert list(Task.objects.filter(enabled=False)) == [off]
    assert list(Task.objects.filter(queue="mail", enabled=True)) == [mail]
    assert list(Task.objects.filter(queue="mail").filter(enabled=False)) == []
    assert Task.objects.filter(label="a").first() is not None
    assert Task.objects.filter(label="z").first() is None


def test_a_label_is_not_mistaken_for_its_prefix() -> None:
    saved(label="mail")
    saved(label="mail.weekly")
    assert Task.objects.filter(label="mail").count() == 1


def test_all_reads_page_by_page_and_meets_each_task_once() -> None:
    settings.configure(namespace=settings.current().namespace + "p", partitions=3)
    session = context.session()
    definitions = [
        sisy_redis.scheduler.define(SEND, id=f"t{i}", label="same" if i % 2 else f"l{i}") for i in range(450)
    ]
    session.transport.run(sisy_redis.views.save_many(session.space, definitions))
    assert sorted(task.id for task in Task.objects.all()) == sorted(d.id for d in definitions)
    assert Task.objects.filter(label="same").count() == 225
    assert Task.objects.count() == 450


# --- helpers of the module -------------------------------------------------------------------------------------------


def test_func_from_string_and_funcinfo_from_string() -> None:
    assert func_from_string(SEND) is face_tasks.send
    assert funcinfo_from_string("face_tasks.Report.weekly")["func_type"] == "classmethod"
    with pytest.raises(ValueError, match="not found"):
        func_from_string("no_such_module_x.f")


def test_taskinfo_with_label_is_the_funcinfo_of_the_task() -> None:
    task = saved(label="info")
    assert taskinfo_with_label("info") == task.funcinfo
    with pytest.raises(DoesNotExist):
        taskinfo_with_label("none")


def test_the_package_offers_the_same_names() -> None:
    for name in sisy_redis.models.__all__:
        assert getattr(sisy_redis, name) is getattr(sisy_redis.models, name)
        assert name in sisy_redis.__all__


# --- the connection --------------------------------------------------------------------------------------------------


def test_the_connection_is_shared_by_threads_and_renewed_after_a_fork() -> None:
    here = context.session()
    found: list[context.Session] = []
    thread = threading.Thread(target=lambda: found.append(context.session()))
    thread.start()
    thread.join()
    assert found == [here]
    assert context.session() is here
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        task = saved(label="child")
        os.write(writing, f"{context.session() is here} {task.id}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    is_shared, task_id = os.read(reading, 200).decode().split()
    assert is_shared == "False"
    assert Task.objects.get(label="child").id == task_id


def test_a_namespace_with_another_partition_count_is_refused() -> None:
    context.session()
    settings.configure(partitions=5)
    with pytest.raises(sisy_redis.SettingsError, match="has 1 partitions"):
        context.session()


# --- what an edit leaves alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"tz": "Europe/Berlin"}, {"label": "x"}, {"iterations": 2}, {"queue": "default"}])
@pytest.mark.parametrize("heartbeat", [None, 60])
def test_a_one_off_that_is_edited_before_it_ran_still_runs(
    change: dict[str, Any], heartbeat: int | None, worker: HandWorker
) -> None:
    task = Task.run_once(face_tasks.send)
    settings.configure(heartbeat_frequency=heartbeat)
    for name, value in change.items():
        setattr(task, name, value)
    task.save()
    (attempt,) = worker.claim()
    assert attempt.run_id.startswith(f"{task.id}:")


def test_a_one_off_saved_disabled_runs_when_it_is_enabled(worker: HandWorker) -> None:
    task = saved(schedule="@once", enabled=False)
    assert task.next_run == FAR_FUTURE and worker.claim() == ()
    task.enabled = True
    task.save()
    assert len(worker.claim()) == 1


def test_a_moved_one_off_runs_at_its_new_start_only(worker: HandWorker) -> None:
    task = Task.run_once(face_tasks.send, delay_until=later(60))
    then = later(600).replace(microsecond=0)
    task.start_running = then
    task.save()
    assert task.next_run == then
    task.start_running = HAS_NOT_RUN
    task.save()
    (attempt,) = worker.claim()
    worker.settle(attempt)
    assert worker.claim() == () and not Task.objects.filter(id=task.id).exists()


def test_a_one_off_that_became_recurring_follows_its_schedule(worker: HandWorker) -> None:
    task = Task.run_once(face_tasks.send, delay_until=later(60))
    task.schedule, task.iterations, task.start_running = "0 0 1 1 *", 0, HAS_NOT_RUN
    task.save()
    assert (task.next_run.month, task.next_run.day) == (1, 1) and worker.claim() == ()
    task.schedule = "@once"
    task.save()
    assert len(worker.claim()) == 1


@pytest.mark.parametrize("delay", [None, 3600])
def test_an_immediate_first_run_survives_an_edit(delay: int | None, worker: HandWorker) -> None:
    then = None if delay is None else later(delay).replace(microsecond=0)
    task = Task.run_iterations(
        face_tasks.send, iterations=2, schedule="0 0 1 1 *", run_immediately=True, delay_until=then
    )
    task.iterations, task.tz = 3, "Europe/Berlin"
    task.save()
    if then is not None:
        assert task.next_run == then
    else:
        assert len(worker.claim()) == 1
        assert worker.claim() == ()


def gaps_ms(task: Task) -> list[int]:
    """Between the instants that are planned, the last admitted one first."""
    session = context.session()
    (state,) = session.transport.run(queries.load_states(session.space, [task.id]))
    assert state.plan is not None
    instants = [] if state.plan.admitted_ms is None else [state.plan.admitted_ms]
    for segment in state.plan.plan.segments:
        instants += [segment.first_ms + i * segment.step_ms for i in range(min(segment.count or 3, 3))]
    return [after - before for before, after in pairwise(instants)]


def test_the_least_gap_counts_from_a_first_run_at_once(worker: HandWorker) -> None:
    task = Task.run_iterations(face_tasks.send, iterations=5, run_immediately=True)
    assert len(worker.claim()) == 1
    assert min(gaps_ms(task)) >= 60_000
    settings.configure(heartbeat_frequency=10)
    other = saved(schedule="* * * * * *", wait_for_schedule=False)
    assert min(gaps_ms(other)) >= 10_000


def test_the_least_gap_outlives_edits(worker: HandWorker) -> None:
    settings.configure(heartbeat_frequency=60)
    task = saved(schedule="* * * * * *", wait_for_schedule=False)
    assert len(worker.claim()) == 1
    for schedule in ("* * * * * */2", "* * * * * *"):
        task.schedule = schedule
        task.save()
        assert min(gaps_ms(task)) >= 60_000
    task.iterations = 7
    task.save()
    assert min(gaps_ms(task)) >= 60_000


def test_refresh_sees_a_change_of_type() -> None:
    task = saved(userdata={"n": 1})
    other = loaded(task)
    other.userdata["n"] = True
    other.save()
    task.refresh()
    assert task.userdata["n"] is True
    task.label = "changed"
    task.save()
    assert loaded(task).userdata["n"] is True


def test_writers_with_different_heartbeats_do_not_conflict() -> None:
    task = saved()
    other = loaded(task)
    settings.configure(heartbeat_frequency=10)
    other.label = "theirs"
    other.save()
    settings.configure(heartbeat_frequency=20)
    task.enabled = False
    task.save()
    assert (loaded(task).label, loaded(task).enabled) == ("theirs", False)


def test_iterations_lowered_to_what_ran_end_the_task_as_iterations(worker: HandWorker) -> None:
    task = saved(schedule="0 0 1 1 *", wait_for_schedule=False, iterations=3)
    (attempt,) = worker.claim()
    worker.settle(attempt)
    task.iterations = 1
    task.save()
    session = context.session()
    (newest, *_) = session.transport.run(queries.history(session.space, task.id, 5))
    assert (newest.kind, newest.what) == ("ended", "iterations")


def test_a_task_that_has_ended_says_so_by_its_fields(worker: HandWorker) -> None:
    task = Task.run_once(face_tasks.send)
    (attempt,) = worker.claim()
    worker.settle(attempt)
    assert (task.running, task.next_run, task.iterations_left) == (False, FAR_FUTURE, 0)
    with pytest.raises(DoesNotExist):
        task.refresh()


def test_userdata_of_exactly_64_kib_is_stored_and_handed_to_its_run(worker: HandWorker) -> None:
    text = "ä" * 32_700 + "a" * (65_536 - 65_400 - len(json.dumps({"text": ""})))
    task = saved(userdata={"text": text}, schedule="@once")
    assert loaded(task).userdata == {"text": text}
    (attempt,) = worker.claim()
    assert attempt.stored.definition.userdata == {"text": text}
    with pytest.raises(UserdataError):
        saved(userdata={"text": text + "aa"})
