"""A server and a worker of the benchmark's own, on a free port of 127.0.0.1, gone when it ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sisy_redis.errors import RedisUnavailable
from sisy_redis.server_binary import find_binary
from sisy_redis.transport import Transport

CHECKOUT = Path(__file__).resolve().parent.parent
_START_SECONDS = 20.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(*, append_only: bool) -> Iterator[str]:
    """A server's URL."""
    folder, port = tempfile.mkdtemp(), _free_port()
    command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes" if append_only else "no", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _wait_for(url)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    transport = Transport(url)
    while True:
        try:
            transport.server_version()
            return
        except RedisUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            transport.close()


def run_worker(url: str, *options: str) -> dict[str, Any]:
    """Runs one worker until nothing is due; what its callables noted."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "sisy_redis.worker", "--redis-url", url, "--import", "benchmarks.noop"]
        environment = {**os.environ, "BENCHMARK_RESULT": str(result), "PYTHONPATH": str(CHECKOUT)}
        subprocess.run(
            [*command, "--burst", "--log-level", "error", *options],
            env=environment,
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=600,
        )
        found: dict[str, Any] = json.loads(result.read_text())
        return found
