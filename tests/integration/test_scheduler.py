"""The plain face: both schedulers, the decorator, and what a worker makes of it."""

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import face_tasks
import pytest
from hand_worker import HandWorker

from sisy_redis import AsyncScheduler, Scheduler, SettingsError, Task, clock, context, registry, settings
from sisy_redis.errors import CallableError, DoesNotExist, ScheduleError, TaskBusy, TaskError
from sisy_redis.scheduler import define

SEND = "face_tasks.send"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SISY_HEARTBEAT_FREQUENCY", "SISY_DEFAULT_SCHEDULE", "SISY_TIME_ZONE", "SISY_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield
    registry.clear()
    context.close()
    settings.configure(redis_url=None, namespace=None, heartbeat_frequency=None, time_zone=None, default_schedule=None)


@pytest.fixture
def scheduler(redis_url: str, namespace: str) -> Iterator[Scheduler]:
    with Scheduler(redis_url, namespace) as opened:
        yield opened


@pytest.fixture
def worker(redis_url: str, namespace: str, scheduler: Scheduler) -> HandWorker:
    settings.configure(redis_url=redis_url, namespace=namespace)
    session = context.session()
    return HandWorker(session.space, session.transport)


def now() -> datetime:
    return clock.from_ms(clock.wall_ms())


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


# --- both faces ------------------------------------------------------------------------------------------------------


def test_both_schedulers_have_the_same_methods_with_the_same_signatures() -> None:
    assert public(Scheduler) == public(AsyncScheduler)
    assert inspect.signature(Scheduler) == inspect.signature(AsyncScheduler)


def test_both_schedulers_say_the_same_of_themselves() -> None:
    for name in public(Scheduler):
        if name != "task":
            assert getattr(Scheduler, name).__doc__ == getattr(AsyncScheduler, name).__doc__


def test_the_methods_of_the_async_scheduler_are_coroutines_but_for_the_decorators() -> None:
    plain = {name for name in public(AsyncScheduler) if not inspect.iscoroutinefunction(getattr(AsyncScheduler, name))}
    assert plain == {"task", "on_worker_start", "on_worker_stop"}


def test_a_scheduler_takes_a_url_and_a_namespace() -> None:
    parameters = inspect.signature(Scheduler).parameters
    assert {name: p.default for name, p in parameters.items()} == {"url": None, "namespace": "sisy"}
    with pytest.raises(SettingsError):
        Scheduler("redis://127.0.0.1:1/0", "a{b}").get("x")


def test_a_scheduler_without_arguments_uses_the_settings(redis_url: str, namespace: str) -> None:
    settings.configure(redis_url=redis_url, namespace=namespace)
    with Scheduler() as scheduler:
        scheduler.save(SEND)
    assert Task.objects.get(label=SEND).id == SEND


def test_a_scheduler_connects_on_first_use_and_again_after_close(scheduler: Scheduler) -> None:
    Scheduler("redis://127.0.0.1:1/0")
    scheduler.save(SEND)
    scheduler.close()
    assert scheduler.get(SEND).id == SEND


def test_the_async_scheduler_does_what_the_other_does(redis_url: str, namespace: str) -> None:
    async def use() -> None:
        async with AsyncScheduler(redis_url, namespace) as scheduler:
            view = await scheduler.save(face_tasks.send, schedule="0 0 1 1 *", id="a", label="mail")
            assert await scheduler.get("a") == view
            assert await scheduler.find("mail") == [view]
            await scheduler.pause("a", by="me", reason="why")
            paused = await scheduler.get("a")
            assert paused.pause is not None and paused.pause.reason == "why"
            await scheduler.resume("a")
            assert len(await scheduler.upcoming("a", 2)) == 2
            run_id = await scheduler.trigger(view)
            assert run_id.startswith("a:")
            assert await scheduler.save_many([define(SEND, id="b"), define(SEND, id="c")]) == ["b", "c"]
            assert await scheduler.workers() == []
            assert await scheduler.delete("a") is True
            assert [entry.what for entry in await scheduler.history("a")] == ["deleted"]
            with pytest.raises(DoesNotExist):
                await scheduler.get("a")

    asyncio.run(use())


# --- save, get, find, delete -----------------------------------------------------------------------------------------


def test_saving_an_id_again_changes_the_task(scheduler: Scheduler) -> None:
    first = scheduler.save(face_tasks.send, schedule="0 0 1 1 *", id="a")
    second = scheduler.save(face_tasks.send, schedule="0 0 2 1 *", id="a", userdata={"n": 1})
    assert second.created_at == first.created_at
    assert (second.schedule, second.userdata) == ("0 0 2 1 *", {"n": 1})
    assert second.next_run is not None and second.next_run.day == 2


def test_saving_the_same_again_changes_nothing(scheduler: Scheduler) -> None:
    first = scheduler.save(face_tasks.send, every=timedelta(hours=1))
    assert scheduler.save(face_tasks.send, every=timedelta(hours=1)) == first


def test_the_id_defaults_to_the_label_and_that_to_the_path(scheduler: Scheduler) -> None:
    assert scheduler.save(face_tasks.send).id == SEND
    assert scheduler.save(face_tasks.send, label="mail").id == "mail"


def test_a_view_shows_the_task(scheduler: Scheduler) -> None:
    view = scheduler.save(SEND, schedule="0 0 1 1 *", tz="Europe/Berlin", allow_overlap=False, iterations=3, queue="q")
    assert (view.path, view.tz, view.queue, view.allow_overlap) == (SEND, "Europe/Berlin", "q", False)
    assert (view.iterations, view.iterations_left, view.running, view.last, view.pause) == (3, 3, False, None, None)
    assert abs(view.created_at - now()) < timedelta(seconds=5)
    with pytest.raises(AttributeError):
        view.label = "x"  # type: ignore[misc]


def test_a_saved_interval_keeps_to_its_anchor(scheduler: Scheduler) -> None:
    anchor = datetime(2020, 1, 1, 0, 0, 7, tzinfo=UTC)
    view = scheduler.save(SEND, every=timedelta(minutes=10), anchor=anchor)
    assert view.next_run is not None
    assert (view.next_run - anchor) % timedelta(minutes=10) == timedelta(0)
    assert view.next_run > now() - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"every": timedelta(0)}, "interval"),
        ({"every": 5}, "timedelta"),
        ({"every": timedelta(1), "schedule": "* * * * *"}, "not both"),
        ({"anchor": datetime(2020, 1, 1, tzinfo=UTC)}, "every"),
        ({"every": timedelta(1), "anchor": datetime(2020, 1, 1)}, "aware"),
        ({"id": ""}, "empty"),
        ({"id": "a\tb"}, "control"),
        ({"allow_overlap": True, "overlap": "skip"}, "one of them"),
        ({"schedule": "61 * * * *"}, "minute"),
        ({"tz": "Nowhere"}, "zone"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stored(
    fields: dict[str, Any], text: str, scheduler: Scheduler, client: Any
) -> None:
    with pytest.raises(TaskError, match=text):
        scheduler.save(SEND, **fields)
    assert client.dbsize() == 0


def test_unknown_fields_are_refused(scheduler: Scheduler) -> None:
    with pytest.raises(TypeError, match="colour"):
        scheduler.save(SEND, colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="complete"):
        scheduler.save(define(SEND), queue="q")
    with pytest.raises(TypeError, match="Definition"):
        scheduler.save_many([SEND])  # type: ignore[list-item]


def test_save_many_checks_all_before_it_stores_any(scheduler: Scheduler) -> None:
    good, bad = define(SEND, id="good"), define(SEND, id="bad")
    bad = replace(bad, schedule="61 * * * *")
    with pytest.raises(ScheduleError):
        scheduler.save_many([good, bad])
    with pytest.raises(DoesNotExist):
        scheduler.get("good")


def test_save_many_stores_all(scheduler: Scheduler) -> None:
    ids = [f"t{i}" for i in range(501)]
    assert scheduler.save_many(define(SEND, id=i, label="many") for i in ids) == ids
    assert sorted(view.id for view in scheduler.find("many")) == sorted(ids)


def test_a_view_means_that_very_task(scheduler: Scheduler) -> None:
    old = scheduler.save(SEND, id="a")
    scheduler.delete("a")
    scheduler.save(SEND, id="a")
    with pytest.raises(DoesNotExist):
        scheduler.pause(old)
    assert scheduler.delete(old) is False
    assert scheduler.delete("a") is True
    assert scheduler.delete("a") is False


# --- pause, trigger, upcoming, history -------------------------------------------------------------------------------


def test_pausing_is_separate_from_enabled(scheduler: Scheduler) -> None:
    scheduler.save(SEND, id="a")
    scheduler.pause("a", by="me", reason="repairs")
    view = scheduler.get("a")
    assert view.enabled and view.next_run is None
    assert view.pause is not None and (view.pause.by, view.pause.reason) == ("me", "repairs")
    assert scheduler.upcoming("a") == []
    scheduler.save(SEND, id="a", schedule="*/2 * * * *")
    assert scheduler.get("a").pause is not None
    scheduler.resume("a")
    assert scheduler.get("a").next_run is not None
    with pytest.raises(TaskError, match="control"):
        scheduler.pause("a", by="me\tyou")


def test_trigger_admits_an_extra_run(scheduler: Scheduler, worker: HandWorker) -> None:
    scheduler.save(SEND, id="a", schedule="0 0 1 1 *", allow_overlap=False, iterations=5)
    run_id = scheduler.trigger("a")
    assert scheduler.get("a").iterations_left == 5
    with pytest.raises(TaskBusy):
        scheduler.trigger("a")
    (attempt,) = worker.claim()
    assert attempt.run_id == run_id and scheduler.get("a").running
    assert worker.settle(attempt)
    scheduler.trigger("a", counts=True)
    assert scheduler.get("a").iterations_left == 4
    (entry,) = scheduler.history("a")
    assert (entry.run_id, entry.what) == (run_id, "ok")
    assert [w.boot for w in scheduler.workers()] == [worker.boot]


def test_upcoming_keeps_to_the_bounds_of_the_task(scheduler: Scheduler) -> None:
    start = datetime(2100, 1, 1, tzinfo=UTC)
    view = scheduler.save(SEND, schedule="0 0 * * *", start_running=start, end_running=start + timedelta(days=3))
    assert scheduler.upcoming(view, 9) == [start + timedelta(days=i) for i in range(3)]
    assert scheduler.upcoming(view, 2) == [start, start + timedelta(days=1)]
    limited = scheduler.save(SEND, id="b", schedule="0 0 * * *", iterations=2)
    assert len(scheduler.upcoming(limited, 9)) == 2
    assert len(scheduler.upcoming(scheduler.save(SEND, id="c", every=timedelta(days=1)), 9)) == 9
    assert scheduler.upcoming(scheduler.save(SEND, id="d", enabled=False)) == []


# --- the decorator ---------------------------------------------------------------------------------------------------


def declared(scheduler: Scheduler | AsyncScheduler, **fields: Any) -> Any:
    return scheduler.task(**fields)(face_tasks.send)


def test_a_decorated_function_stays_as_it_was(scheduler: Scheduler) -> None:
    assert declared(scheduler, schedule="0 0 1 1 *") is face_tasks.send
    assert registry.registered()[SEND] is face_tasks.send


def test_declared_tasks_are_stored_by_save_registered(scheduler: Scheduler) -> None:
    declared(scheduler, schedule="0 0 1 1 *", queue="q")
    scheduler.task(id="sum", every=timedelta(hours=1), userdata={"a": 1})(face_tasks.add)
    assert scheduler.save_registered() == [SEND, "sum"]
    assert (scheduler.get(SEND).queue, scheduler.get("sum").userdata) == ("q", {"a": 1})


def test_one_function_may_be_declared_as_several_tasks(scheduler: Scheduler) -> None:
    declared(scheduler, id="a")
    declared(scheduler, id="b")
    declared(scheduler, id="b", queue="q")
    assert [d.id for d in registry.definitions()] == ["a", "b"]
    with pytest.raises(TaskError, match="both declare"):
        scheduler.task(id="a")(face_tasks.poll)


@pytest.mark.parametrize("fields", [{"schedule": "61 * * * *"}, {"tz": "Nowhere"}, {"iterations": -1}])
def test_a_wrong_declaration_is_refused_where_it_stands(fields: dict[str, Any], scheduler: Scheduler) -> None:
    with pytest.raises(TaskError):
        declared(scheduler, **fields)
    assert registry.registered() == {}


def test_the_decorator_is_for_functions_of_a_module(scheduler: Scheduler) -> None:
    def inner(message: Any) -> None:
        pass

    for wrong in (inner, face_tasks.Report, face_tasks.Report.weekly):
        with pytest.raises(CallableError):
            scheduler.task()(wrong)  # type: ignore[type-var]


def test_a_bad_port_in_the_url_is_a_settings_error_that_shows_no_password() -> None:
    with pytest.raises(SettingsError, match="port") as raised:
        Scheduler("redis://:sec/ret@127.0.0.1/0").workers()
    assert "sec" not in str(raised.value)
