"""How many due no-op runs a second: the scripts alone in a bare loop, and one worker process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks import noop, place
from sisy_redis import Scheduler, calls, clock, operations
from sisy_redis.calls import Settlement
from sisy_redis.keys import Space
from sisy_redis.scheduler import define
from sisy_redis.transport import Transport

BATCH = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians are taken of ``per_second``; CPU in microseconds a run."""

    name: str
    per_second: float
    redis_cpu_us: float
    worker_cpu_us: float | None = None


def _server_cpu(transport: Transport) -> float:
    (info,) = transport.execute([calls.read(lambda reply: reply, "INFO", "cpu")])
    fields = (
        info
        if isinstance(info, dict)
        else dict(line.split(":", 1) for line in calls.text(info).splitlines() if ":" in line)
    )
    return float(fields["used_cpu_sys"]) + float(fields["used_cpu_user"])


def save(url: str, count: int, func: Callable[..., Any]) -> float:
    """Saves ``count`` recurring tasks that are due in a moment; how many were saved in a second."""
    # Long enough for the saving: an instant that has passed by then would not be due for a day.
    due = clock.from_ms(clock.wall_ms()) + timedelta(seconds=1 + count / 2500)
    tasks = [define(func, id=f"task-{i}", every=timedelta(days=1), anchor=due) for i in range(count)]
    with Scheduler(url) as scheduler:
        began = time.monotonic()
        scheduler.save_many(tasks)
        took = time.monotonic() - began
    time.sleep(max(0.0, (clock.to_ms(due) - clock.wall_ms()) / 1000 + 0.1))
    return count / took


def scripts_alone(url: str, count: int) -> Measured:
    """Claims and settles in batches of 100, nothing between the calls: what the scripts allow at most."""
    save(url, count, noop.plain)
    transport, space = Transport(url), Space()
    p = space.partition(0)
    (now_ms,) = transport.execute([calls.server_time(space)])
    (boot,) = transport.execute([calls.register(p, operations.new_op(now_ms), 60_000, ["default"], "bench")])
    cpu, began, done, seq, ends = _server_cpu(transport), time.monotonic(), 0, 0, list[Settlement]()
    while done < count:
        seq += 1
        batch: list[calls.Call[Any]] = [calls.settle(p, boot.boot, "bench", ends)] if ends else []
        answers = transport.execute([*batch, calls.claim(p, boot.boot, seq, BATCH, ["default"])])
        ends = [Settlement(a.run_id, a.token, "ok", a.queue) for a in answers[-1].attempts]
        done += len(ends)
    transport.execute([calls.settle(p, boot.boot, "bench", ends)])
    took, used = time.monotonic() - began, _server_cpu(transport) - cpu
    transport.close()
    return Measured("scripts in a bare loop", count / took, used / count * 1e6)


def one_worker(url: str, count: int, func: Callable[..., Any]) -> Measured:
    """One worker process with its default settings."""
    idle = place.run_worker(url)
    save(url, count, func)
    transport = Transport(url)
    cpu = _server_cpu(transport)
    result = place.run_worker(url)
    used = _server_cpu(transport) - cpu
    transport.close()
    began = result["began"]
    if len(began) != count:
        raise AssertionError(f"{len(began)} runs were made of {count}")
    worker_us = (result["cpu_s"] - idle["cpu_s"]) / count * 1e6
    return Measured(f"one worker, {func.__name__}", count / (max(began) - min(began)), used / count * 1e6, worker_us)
