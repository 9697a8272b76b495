"""The demo's worker processes, each known by its own process id."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import sisy_redis
from sisy_redis import clock
from sisy_redis.worker.supervisor import die_with

LEASE_SECONDS = 2
_GRACE_SECONDS = 6.0


class Fleet:
    """Worker processes; ``stop`` ends every one of them and returns when they are gone."""

    def __init__(self, server_home: Path, namespace: str, home: Path) -> None:
        self._home, self._server_home = home, server_home
        # Users of the embedded server like this process: the last one out stops it, even if this one is killed.
        self._command = [sys.executable, "-m", "sisy_redis.worker", "--embedded", "--namespace", namespace]
        self._command += ["--import", "sisy_redis.demo.tasks", "--allow", "sisy_redis.demo.tasks"]
        self._command += ["--lease", str(LEASE_SECONDS), "--drain-timeout", "4", "--log-level", "warning"]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """Every worker that was started."""
        return [process.pid for process in self._processes]

    @property
    def alive(self) -> list[int]:
        """Those that still run."""
        return [process.pid for process in self._processes if process.poll() is None]

    def start(self, number: int) -> None:
        """Starts workers. In sessions of their own: a Ctrl-C at the terminal must reach them only through ``stop``."""
        for i in range(number):
            with (self._home / f"worker-{i}.log").open("wb") as log:
                process = subprocess.Popen(
                    self._command,
                    stdout=log,
                    stderr=log,
                    env=_environment(os.environ) | {"SISY_HOME": str(self._server_home)},
                    start_new_session=True,
                    preexec_fn=die_with(os.getpid()),
                )
            self._processes.append(process)

    def kill(self, pid: int) -> None:
        """SIGKILL to one of them."""
        for process in self._processes:
            if process.pid == pid:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def stop(self) -> None:
        """Asks every worker to end, and kills those that do not; all of them at once where a second Ctrl-C comes."""
        try:
            for process in self._processes:
                process.terminate()
            deadline = clock.monotonic() + _GRACE_SECONDS
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - clock.monotonic()))
        finally:
            for process in self._processes:
                process.kill()
                process.wait()

    def complaints(self, most_lines: int = 5) -> list[str]:
        """The last lines of the workers' logs, for when something went wrong."""
        found: list[str] = []
        for log in sorted(self._home.glob("worker-*.log")):
            lines = log.read_text(errors="replace").splitlines()
            found += [f"{log.stem}: {line}" for line in lines[-most_lines:]]
        return found


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment without this user's settings, which are not the demo's, and with this very package."""
    environment = {name: value for name, value in given.items() if not name.startswith("SISY_")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    source = Path(sisy_redis.__file__).absolute().parent.parent
    if source.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), given.get("PYTHONPATH")]))
    return environment
