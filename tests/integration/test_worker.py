"""Real workers on a real server: each promise of the README, as a user would see it."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fleet
import redis
from producer import Producer
from proxy import Proxy
from servers import Server
from waiting import poll

from sisy_redis import clock, queries, retry
from sisy_redis.definitions import CallableRef, Definition, Overlap, Pool
from sisy_redis.keys import Space
from sisy_redis.scripts import script

Start = Callable[..., fleet.Worker]


def test_each_second_runs_once_on_time(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("every-second", "quick_coroutine", schedule="* * * * * *"))
    start()
    start()
    poll(lambda: len(producer.rows("every-second")) >= 4)
    nominals = [str(r["nominal"]) for r in producer.rows("every-second")]
    assert len(set(nominals)) == len(nominals)
    first = datetime.fromisoformat(nominals[0])
    assert [datetime.fromisoformat(n) for n in nominals] == [first + timedelta(seconds=i) for i in range(len(nominals))]


def test_a_killed_workers_run_is_finished_by_another(producer: Producer, start: Start) -> None:
    producer.save(
        producer.definition("victim", "slow", schedule="@once", overlap=Overlap.SKIP, userdata={"seconds": 3})
    )
    workers = [start("--lease", "2") for _ in range(3)]
    (first,) = poll(lambda: producer.rows("victim"))
    next(w for w in workers if w.pid == first["pid"]).kill()
    (end,) = poll(lambda: producer.rows("victim", "end"), 20)
    assert end["run"] == first["run"] and end["pid"] != first["pid"]
    assert end["token"] > first["token"] and end["attempt"] == 2  # type: ignore[operator]
    poll(lambda: producer.state("victim") is None, what="the ended task is removed")
    assert [h.what for h in producer.history("victim")] == ["end", "ok", "redelivered"]


def test_a_thousand_tasks_without_overlap_never_overlap(producer: Producer, start: Start) -> None:
    ids = [f"alone-{i}" for i in range(1000)]
    producer.save(
        *(
            producer.definition(
                i, "slow_coroutine", schedule="@every 1", overlap=Overlap.SKIP, userdata={"seconds": 0.7}
            )
            for i in ids
        )
    )
    workers = [start("--concurrency", "500"), start("--concurrency", "500")]
    poll(lambda: len({r["run"].rsplit(":", 2)[0] for r in fleet.rows(producer.journal)}) == 1000, 40)
    poll(lambda: len(fleet.rows(producer.journal)) > 5000, 40)
    assert [w.stop() for w in workers] == [0, 0]
    is_open: dict[str, str] = {}
    for row in fleet.rows(producer.journal):
        task = row["run"].rsplit(":", 2)[0]
        if row["event"] == "start":
            assert task not in is_open, f"{task} overlapped itself"
            is_open[task] = row["run"]
        else:
            assert is_open.pop(task) == row["run"]
    assert not is_open
    runs = Counter(row["run"] for row in fleet.rows(producer.journal) if row["event"] == "start")
    assert set(runs.values()) == {1}


def test_two_hundred_tasks_of_seven_iterations_run_exactly_seven_times(producer: Producer, start: Start) -> None:
    ids = [f"seven-{i}" for i in range(200)]
    producer.save(*(producer.definition(i, "quick", schedule="@every 0.2", iterations=7) for i in ids))
    workers = [start(), start()]
    poll(lambda: len(fleet.rows(producer.journal)) >= 1400, 40)
    poll(lambda: all(producer.state(i) is None for i in ids[::20]), what="ended tasks are removed")
    assert [w.stop() for w in workers] == [0, 0]
    counts = Counter(row["run"].rsplit(":", 2)[0] for row in fleet.rows(producer.journal))
    assert counts == {i: 7 for i in ids}
    assert len({row["run"] for row in fleet.rows(producer.journal)}) == 1400


def test_a_failing_callable_keeps_its_traceback_and_its_schedule(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("fails", "failing", schedule="* * * * * *"))
    worker = start()
    poll(lambda: len(producer.rows("fails")) >= 2)
    entry = poll(lambda: [h for h in producer.history("fails") if h.what == "failed"])[0]
    assert "ValueError: as expected" in entry.error and "fleet.py" in entry.error
    assert worker.process.poll() is None


def test_a_callable_that_exits_does_not_stop_the_worker(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("exits", "exiting", schedule="* * * * * *"))
    worker = start()
    poll(lambda: len(producer.rows("exits")) >= 2)
    assert worker.process.poll() is None


def test_retries_are_the_same_run_and_end_after_their_attempts(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("again", "failing", schedule="@once", retry=retry.policy((3, 0.2))))
    start()
    poll(lambda: producer.state("again") is None)
    attempts = producer.rows("again")
    assert [r["attempt"] for r in attempts] == [1, 2, 3]
    assert len({r["run"] for r in attempts}) == 1
    tokens = [r["token"] for r in attempts]
    assert tokens == sorted(set(tokens))  # type: ignore[type-var]


def test_a_timeout_ends_a_coroutine_and_a_thread_for_the_schedule(producer: Producer, start: Start) -> None:
    producer.save(
        producer.definition(
            "late-coroutine", "slow_coroutine", schedule="@once", timeout_ms=300, userdata={"seconds": 60}
        ),
        producer.definition("late-thread", "slow", schedule="@once", timeout_ms=300, userdata={"seconds": 4}),
    )
    start()
    for task_id in ("late-coroutine", "late-thread"):
        entries = poll(lambda task_id=task_id: [h for h in producer.history(task_id) if h.what == "timeout"])  # type: ignore[misc]
        assert "timeout" in entries[0].error
    assert not producer.rows("late-coroutine", "end")


def test_a_coroutine_that_blocks_its_worker_is_ended_at_its_timeout_all_the_same(
    producer: Producer, start: Start
) -> None:
    producer.save(
        producer.definition(
            "blocks", "blocking_coroutine", schedule="@every 2", overlap=Overlap.SKIP, timeout_ms=500, iterations=2
        )
    )
    workers = [start("--lease", "2"), start("--lease", "2")]
    (first,) = poll(lambda: producer.rows("blocks"))
    entries = poll(lambda: [h for h in producer.history("blocks") if h.what == "timeout"], 30)
    assert entries[0].run_id == first["run"] and "blocked the worker's event loop" in entries[0].error
    second = poll(lambda: producer.rows("blocks")[1:], 30, "the schedule goes on in the other worker")[0]
    assert second["pid"] != first["pid"] and {first["pid"], second["pid"]} == {w.pid for w in workers}


def test_a_process_run_is_killed_at_its_timeout(producer: Producer, start: Start) -> None:
    producer.save(
        producer.definition("endless", "forever", schedule="@once", timeout_ms=2500, pool=Pool.PROCESS),
        producer.definition("short", "quick", schedule="@once", pool=Pool.PROCESS),
    )
    worker = start()
    (row,) = poll(lambda: producer.rows("endless"))
    assert row["pid"] != worker.pid
    poll(lambda: [h for h in producer.history("endless") if h.what == "timeout"])

    def is_gone() -> bool:
        try:
            os.kill(int(str(row["pid"])), 0)
        except ProcessLookupError:
            return True
        return False

    poll(is_gone, what="the child is gone")
    poll(lambda: [h for h in producer.history("short") if h.what == "ok"])


def test_sigterm_lets_a_run_finish_and_releases_the_rest(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("finishing", "slow", schedule="@once", userdata={"seconds": 1.5}))
    worker = start()
    poll(lambda: producer.rows("finishing"))
    assert worker.stop() == 0
    assert producer.rows("finishing", "end")
    assert producer.state("finishing") is None
    assert producer.transport.run(queries.workers(producer.space)) == []


def test_a_second_signal_leaves_at_once(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("stuck", "forever", schedule="@once"))
    worker = start()
    poll(lambda: producer.rows("stuck"))
    worker.process.send_signal(signal.SIGTERM)
    poll(lambda: "stopping" in worker.output)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(5) == 1


def test_a_drained_worker_leaves_its_unfinished_runs_to_others_at_once(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("handed-over", "slow", schedule="@once", userdata={"seconds": 3}))
    first = start("--drain-timeout", "0.2")
    poll(lambda: producer.rows("handed-over"))
    second = start("--lease", "2")
    poll(lambda: "slots" in second.output)
    first.process.terminate()
    (end,) = poll(lambda: producer.rows("handed-over", "end"), 20)
    assert end["pid"] == second.pid


def test_a_drained_worker_hands_over_without_waiting_for_a_renewal(producer: Producer, start: Start) -> None:
    # Nobody else renews, and so looks for the dead, within a hundred seconds.
    options = ("--lease", "300", "--drain-timeout", "0")
    producer.save(producer.definition("long", "slow_coroutine", schedule="@once", userdata={"seconds": 600}))
    first = start(*options)
    poll(lambda: producer.rows("long"))
    second = start(*options)
    poll(lambda: "slots" in second.output)
    first.process.send_signal(signal.SIGTERM)
    taken = poll(lambda: producer.rows("long")[1:], 60, "the second takes the run")
    assert [row["attempt"] for row in taken] == [2] and taken[0]["pid"] == second.pid


def test_burst_runs_what_is_due_and_exits(producer: Producer, start: Start) -> None:
    producer.save(*(producer.definition(f"due-{i}", "quick", schedule="@once") for i in range(40)))
    producer.save(producer.definition("tomorrow", "quick", schedule="@every 86400"))
    assert start("--burst").process.wait(30) == 0
    assert len(fleet.rows(producer.journal)) == 40


def test_a_task_nobody_can_import_is_left_and_shows_as_unroutable(producer: Producer, start: Start) -> None:
    ref = CallableRef(path="not_here.f", module_name="not_here", func_name="f")
    elsewhere = Definition(id="elsewhere", label="elsewhere", callable=ref, schedule="@once")
    producer.save(elsewhere, producer.definition("here", "quick", schedule="@once"))
    start()
    poll(lambda: producer.rows("here"))
    state = poll(lambda: (s := producer.state("elsewhere")) and s.unroutable and s)
    assert "Module not_here not found" in str(state.unroutable)  # type: ignore[union-attr]
    assert state.open_runs == 1  # type: ignore[union-attr]


def test_only_allowed_prefixes_run(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("barred", "quick", schedule="@once"))
    start("--allow", "somewhere.else")
    state = poll(lambda: (s := producer.state("barred")) and s.unroutable and s)
    assert "under none of the allowed prefixes" in str(state.unroutable)  # type: ignore[union-attr]
    start("--allow", "fleet")
    poll(lambda: producer.rows("barred"))


def test_named_queues_are_served_by_the_workers_that_name_them(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("mail", "quick", schedule="@once", queue="mail"))
    producer.save(producer.definition("plain", "quick", schedule="@once"))
    start()
    poll(lambda: producer.rows("plain"))
    assert not producer.rows("mail")
    start("--queues", "mail,reports")
    poll(lambda: producer.rows("mail"))


def test_userdata_changed_in_a_run_is_saved(producer: Producer, start: Start) -> None:
    producer.save(producer.definition("counts", "counting", schedule="* * * * * *", overlap=Overlap.SKIP, iterations=0))
    start()
    poll(lambda: (s := producer.state("counts")) and s.stored.definition.userdata.get("count", 0) >= 2)


def test_redis_may_go_away_and_come_back(
    server_factory: Callable[..., Server], start: Start, namespace: str, tmp_path: Path
) -> None:
    server = server_factory("--appendonly", "yes", "--appendfsync", "always")
    producer = Producer(server.url, namespace, tmp_path / "journal")
    producer.save(producer.definition("steady", "quick_coroutine", schedule="* * * * * *"))
    worker = start(url=server.url)
    poll(lambda: len(producer.rows("steady")) >= 2)
    server.kill()
    poll(lambda: "waiting for it" in worker.output)
    server.start()
    before = len(producer.rows("steady"))
    poll(lambda: len(producer.rows("steady")) >= before + 3, 20)
    nominals = [r["nominal"] for r in producer.rows("steady")]
    assert len(nominals) == len(set(nominals))
    assert worker.output.count("waiting for it") == 1 and worker.process.poll() is None


def test_a_paused_and_resumed_worker_runs_nothing_it_lost(producer: Producer, start: Start) -> None:
    producer.save(
        producer.definition("frozen", "slow_coroutine", schedule="@once", overlap=Overlap.SKIP, userdata={"seconds": 7})
    )
    workers = [start("--lease", "2"), start("--lease", "2")]
    (first,) = poll(lambda: producer.rows("frozen"))
    frozen = next(w for w in workers if w.pid == first["pid"])
    frozen.process.send_signal(signal.SIGSTOP)
    poll(lambda: len(producer.rows("frozen")) == 2)
    frozen.process.send_signal(signal.SIGCONT)
    poll(lambda: "lost the lease" in frozen.output)
    (end,) = poll(lambda: producer.rows("frozen", "end"), 20)
    assert end["pid"] != frozen.pid
    assert len(producer.rows("frozen", "end")) == 1
    assert len(poll(lambda: [h for h in producer.history("frozen") if h.what == "ok"])) == 1


def test_several_processes_are_supervised(producer: Producer, start: Start) -> None:
    # More than one process has slots for: an idle fleet leaves light work to the one that holds the watch.
    producer.save(
        producer.definition("busy", "slow_coroutine", schedule="@every 0.25", userdata={"seconds": 1}),
    )
    parent = start("--processes", "2", "--concurrency", "2")

    def pids() -> set[object]:
        return {row["pid"] for row in producer.rows("busy")}

    poll(lambda: len(pids()) == 2, 30, "both children work")
    victim = next(iter(pids()))
    os.kill(int(str(victim)), signal.SIGKILL)
    poll(lambda: "is started again" in parent.output)
    poll(lambda: len(pids()) == 3, 30, "the new child works")
    assert parent.stop() == 0


def test_start_up_prints_where_it_works(producer: Producer, start: Start, client: redis.Redis, namespace: str) -> None:
    worker = start()
    poll(lambda: "slots" in worker.output)
    for word in ("sisy-redis", "server     redis://", "127.0.0.1:", namespace, "1 partition", "UTC", "slots      16"):
        assert word in worker.output


def test_a_delayed_one_off_runs_exactly_then(producer: Producer, start: Start) -> None:
    start()
    at = clock.from_ms(producer.transport.run(_now(producer.space)) + 1500)
    producer.save(producer.definition("later", "quick", schedule="@once", start_ms=clock.to_ms(at)))
    (row,) = poll(lambda: producer.rows("later"))
    assert datetime.fromisoformat(str(row["nominal"])) == at.astimezone(UTC)


def _now(space: Space):  # type: ignore[no-untyped-def]
    now_ms, _ = yield from queries.load_records(space, ["-"])
    return now_ms


def test_a_claim_whose_reply_is_lost_gives_the_same_attempts_once(
    producer: Producer, start: Start, server: Server
) -> None:
    proxy = Proxy(server.port, script("claim").sha.encode())
    try:
        worker = start(url=proxy.url)
        poll(lambda: "slots" in worker.output)
        proxy.losses = 3
        ids = [f"unheard-{i}" for i in range(10)]
        producer.save(*(producer.definition(i, "quick", schedule="@once") for i in ids))
        poll(lambda: len(fleet.rows(producer.journal)) >= 10)
        poll(lambda: proxy.lost == 3)
        poll(lambda: all(producer.state(i) is None for i in ids))
        rows = fleet.rows(producer.journal)
        assert sorted(row["run"].partition(":")[0] for row in rows) == sorted(ids)
        assert {row["attempt"] for row in rows} == {1}
    finally:
        proxy.close()
