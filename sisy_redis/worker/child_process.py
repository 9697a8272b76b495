"""One run in a process of its own: data goes in and out as JSON, and the whole process group can be killed."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from sisy_redis.worker.ending import Failure


class ChildProcess:
    """A fresh interpreter for one run."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._process: asyncio.subprocess.Process | None = None
        self._is_killed = False

    async def run(self) -> tuple[Failure | None, str]:
        """Runs the request: how it failed, None when it did not, and its result. Never leaves the child behind."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sisy_redis.worker.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        if self._is_killed:
            self.kill()
        try:
            out, _ = await process.communicate(json.dumps(self._request).encode() + b"\n")
        except BaseException:
            self.kill()
            await asyncio.shield(process.wait())
            raise
        return self._read(out, process.returncode)

    def kill(self) -> None:
        """SIGKILL for the child and everything it started."""
        self._is_killed = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, out: bytes, code: int | None) -> tuple[Failure | None, str]:
        line = out.rpartition(b"\x1e")[2]
        try:
            answer = json.loads(line)
            failure = answer["failure"]
            return None if failure is None else Failure.from_wire(failure), str(answer["result"])
        except (ValueError, KeyError, TypeError):
            return Failure(f"the child process ended with {code} before it said how its run ended"), ""
