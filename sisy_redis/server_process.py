"""The process of an embedded server: where its files lie, and starting, probing and stopping it.

The server inherits the descriptor of ``server.lock`` and so keeps it locked exactly as long as it lives: whether the
data is in use never depends on a process id or on a socket file.
"""

import hashlib
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sisy_redis import clock
from sisy_redis.server_binary import EmbeddedUnavailable, find_binary, stamp

if sys.platform != "win32":
    import fcntl

START_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
ANSWER_SECONDS = 1.0
# sockaddr_un holds 104 bytes on macOS and 108 on Linux.
MAX_SOCKET_PATH_BYTES = 100
MAX_LOG_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where everything of one embedded server lies, and the lock under which it is started, joined and left."""

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    @property
    def start_lock(self) -> Path:
        return self.home / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.home / "users.lock"

    @property
    def server_lock(self) -> Path:
        return self.home / "server.lock"

    @property
    def socket(self) -> Path:
        direct = self.home / "server.sock"
        if len(os.fsencode(direct)) < MAX_SOCKET_PATH_BYTES:
            return direct
        # Not TMPDIR: processes of the same home must agree on it. It is checked to be ours before use.
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(f"/tmp/sisy-{os.geteuid()}-{digest}/server.sock")

    def prepare(self) -> None:
        """Make the directories, and refuse one in which another user could plant a server to obey."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.home.stat()
        if found.st_mode & stat.S_IWOTH:
            raise EmbeddedUnavailable(
                f"{self.home} is writable by everybody; chmod o-w it, or set SISY_HOME elsewhere."
            )

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold the start lock. Raises EmbeddedUnavailable if another process keeps it for too long."""
        descriptor = open_lock(self.start_lock)
        try:
            if not _until(lambda: locked(descriptor), START_SECONDS + STOP_SECONDS):
                raise EmbeddedUnavailable(
                    f"Another process keeps {self.start_lock} locked; "
                    "look for one that hangs while it starts or stops the server."
                )
            yield
        finally:
            # Unlocked before it is closed: a child forked meanwhile keeps a copy open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def ensure_up(place: Place, binary: Path | None) -> None:
    """Return once the server answers, having started it if it does not run. Call it under ``place.starting()``."""
    _prepare_socket_directory(place)
    launched = False
    deadline = clock.monotonic() + START_SECONDS
    while not (answer := _ask(place, b"PING")).startswith(b"+PONG"):
        if answer.startswith(b"-LOADING"):
            deadline = clock.monotonic() + START_SECONDS
        elif not _is_running(place):
            if launched:
                raise EmbeddedUnavailable(
                    f"The embedded server ended while starting; the end of {place.log}:\n{_tail(place.log)}"
                )
            _launch(place, binary or find_binary())
            launched = True
        if clock.monotonic() > deadline:
            raise EmbeddedUnavailable(
                f"The embedded server in {place.home} runs but does not answer on {place.socket}; "
                f"see {place.log}, end it, and retry."
            )
        time.sleep(POLL_SECONDS)


def _prepare_socket_directory(place: Place) -> None:
    directory = place.socket.parent
    if directory == place.home:
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EmbeddedUnavailable(
            f"{directory} is not a private directory of yours; remove it, or set SISY_HOME to a shorter path."
        )


def _launch(place: Place, binary: Path) -> None:
    stamp(place.data, binary)
    if place.log.exists() and place.log.stat().st_size > MAX_LOG_BYTES:
        place.log.replace(place.log.with_suffix(".log.1"))
    options = {
        "port": "0",
        "unixsocket": str(place.socket),
        "unixsocketperm": "700",
        "dir": str(place.data),
        "logfile": str(place.log),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        # A daemon is nobody's child: no Ctrl-C of a user's terminal reaches it, and it leaves no zombie.
        "daemonize": "yes",
    }
    command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
    held = open_lock(place.server_lock)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        started = subprocess.run(
            command,
            pass_fds=(held,),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(held)
    if started.returncode != 0:
        raise EmbeddedUnavailable(
            f"{binary} did not start: {(started.stdout + started.stderr).strip() or _tail(place.log)}"
        )


def stop(place: Place) -> None:
    """Shut the server down and return when it is gone. Call it under ``place.starting()``."""
    # NOSAVE is obeyed even while a script runs; the append-only file is flushed and synced all the same.
    _ask(place, b"SHUTDOWN NOSAVE")
    if not _until(lambda: not _is_running(place), STOP_SECONDS):
        logger.warning("the embedded server in %s did not stop; see %s", place.home, place.log)
    elif place.socket.parent != place.home:
        with suppress(OSError):
            place.socket.parent.rmdir()


def _is_running(place: Place) -> bool:
    descriptor = open_lock(place.server_lock)
    try:
        return not locked(descriptor)
    finally:
        os.close(descriptor)


def _ask(place: Place, command: bytes) -> bytes:
    """The first line of the server's answer; empty if it gave none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(place.socket))
            connection.sendall(command + b"\r\n")
            return connection.recv(512)
        except OSError:
            return b""


def open_lock(path: Path) -> int:
    """A descriptor of its own for a lock file; no program started from here inherits it."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def locked(descriptor: int) -> bool:
    """Whether the lock file is now held by this descriptor alone; never waits."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return "(no log)"
