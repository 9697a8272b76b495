"""The demo's worker processes, each known by its own process id."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import sisy_redis

LEASE_SECONDS = 2
_GRACE_SECONDS = 6.0


class Fleet:
    """Worker processes; ``stop`` ends every one of them and returns when they are gone."""

    def __init__(self, url: str, namespace: str, home: Path) -> None:
        self._home = home
        self._command = [sys.executable, "-m", "sisy_redis.worker", "--redis-url", url, "--namespace", namespace]
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
                    self._command, stdout=log, stderr=log, env=_environment(os.environ), start_new_session=True
                )
            self._processes.append(process)

    def kill(self, pid: int) -> None:
        """SIGKILL to one of them."""
        for process in self._processes:
            if process.pid == pid:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def stop(self) -> None:
        """Asks every worker to end, and kills those that do not."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
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
