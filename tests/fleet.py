"""Real worker processes for tests, and the callables they run. Callables write what they did to a file outside Redis."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def record(message: Mapping[str, Any], event: str) -> None:
    """Appends one line; a single small write is not torn by others."""
    details = message["message"]
    row = {
        "run": details["run_id"],
        "token": details["token"],
        "attempt": details["attempt"],
        "nominal": details["nominal"].isoformat(),
        "pid": os.getpid(),
        "event": event,
        "at": time.time(),
    }
    task = message["task"]
    userdata = task["userdata"] if isinstance(task, Mapping) else task.userdata
    descriptor = os.open(userdata["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, json.dumps(row).encode() + b"\n")
    os.close(descriptor)


def quick(message: Mapping[str, Any]) -> None:
    record(message, "start")


async def quick_coroutine(message: Mapping[str, Any]) -> None:
    record(message, "start")


def slow(message: Mapping[str, Any]) -> None:
    record(message, "start")
    time.sleep(message["task"].userdata.get("seconds", 1))
    record(message, "end")


async def slow_coroutine(message: Mapping[str, Any]) -> None:
    record(message, "start")
    await asyncio.sleep(message["task"].userdata.get("seconds", 1))
    record(message, "end")


async def blocking_coroutine(message: Mapping[str, Any]) -> None:
    record(message, "start")
    time.sleep(60)


def failing(message: Mapping[str, Any]) -> None:
    record(message, "start")
    raise ValueError("as expected")


def forever(message: Mapping[str, Any]) -> None:
    record(message, "start")
    time.sleep(600)


def counting(message: Mapping[str, Any]) -> None:
    task = message["task"]
    task.userdata["count"] = task.userdata.get("count", 0) + 1
    task.save()
    record(message, "saved")


def from_a_child(message: Mapping[str, Any]) -> None:
    """Saves another task, as the settings of this process say."""
    from sisy_redis import Scheduler

    userdata = {"journal": message["task"]["userdata"]["journal"]}
    with Scheduler() as scheduler:
        scheduler.save(quick, id=message["task"]["userdata"]["id"], schedule="@once", userdata=userdata)


def exiting(message: Mapping[str, Any]) -> None:
    record(message, "start")
    sys.exit(3)


def rows(journal: Path) -> list[dict[str, Any]]:
    """What the callables wrote, in order."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().splitlines()]


class Worker:
    """A worker process; its log is kept for the failure message. ``url`` None: the environment names the server."""

    def __init__(
        self, url: str | None, namespace: str, folder: Path, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        paths = [str(HERE), *([] if os.environ.get("SISY_TEST_WHEEL") == "1" else [str(HERE.parent)])]
        place = [] if url is None else ["--redis-url", url]
        command = [sys.executable, "-m", "sisy_redis.worker", *place, "--namespace", namespace, *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(env or {})},
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code; killed when it does not end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
