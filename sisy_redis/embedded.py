"""The embedded server: one per home directory, shared by every process that acquires it, stopped by the last one out.

Three lock files in the home directory carry all shared state; the kernel drops a lock with its process, so a kill -9
anywhere leaves nothing to clean up:

- ``start.lock`` is held while somebody starts, joins, leaves or stops;
- ``users.lock`` is held, shared, by each user; whoever leaves and gets it alone was the last one;
- ``server.lock`` is held by the server itself, which inherits it, so that no second one ever opens the same data.

A process that is killed may leave the server running without users: the next one joins it, the last one out stops it.
"""

import atexit
import logging
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from sisy_redis import settings
from sisy_redis.errors import SettingsError
from sisy_redis.server_binary import EmbeddedUnavailable, find_binary, read_stamp, server_version
from sisy_redis.server_process import Place, ensure_up, locked, open_lock, stop

if sys.platform != "win32":
    import fcntl

__all__ = ["EmbeddedServer", "EmbeddedUnavailable", "Server", "acquire", "find_binary", "resolve", "server_version"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """The server to use: its URL, how it was found (for people), and whether it is embedded. Release it when done."""

    url: str = field(repr=False)
    how: str
    embedded: bool
    hold: "EmbeddedServer | None" = field(default=None, repr=False, compare=False)

    def ensure_running(self) -> None:
        """Start an embedded server again that died; nothing for a server of one's own."""
        if self.hold is not None:
            self.hold.ensure_running()

    def release(self) -> None:
        """Give up an embedded server; the last one out stops it. Nothing for a server of one's own."""
        if self.hold is not None:
            self.hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def resolve(url: str | None = None, *, embedded: bool = False, home: Path | None = None) -> Server:
    """The server that ``url`` or else the settings name, and only that one; without either, an embedded one, acquired.

    ``embedded=True`` asks for the embedded server whatever the settings say. Without it and without a URL, a process in
    Kubernetes is refused, because each pod would get a server of its own. A server named by URL is not contacted here.
    Raises SettingsError, or EmbeddedUnavailable.
    """
    if url is not None and embedded:
        raise SettingsError("Both a Redis URL and the embedded server were asked for; give one of them")
    if url is not None:
        return Server(url, "given by the caller", embedded=False)
    configured = settings.current().redis_url
    if configured is not None and not embedded:
        return Server(configured, settings.origin("redis_url"), embedded=False)
    if not embedded and os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise SettingsError(
            "No Redis URL is set, and in Kubernetes each pod would start an embedded server of its own: "
            "set SISY_REDIS_URL, or ask for the embedded server (--embedded) if that is what you want"
        )
    hold = acquire(home)
    return Server(hold.url, f"EMBEDDED in {hold.home} ({hold.family} {hold.version})", embedded=True, hold=hold)


def acquire(home: str | Path | None = None, *, binary: Path | None = None) -> "EmbeddedServer":
    """Join the embedded server of ``home`` as one of its users, started if it does not run; blocks until it answers.

    ``home`` defaults to SISY_HOME, else ``~/.sisy-redis``; a throw-away directory makes a private server. ``binary``
    defaults to ``find_binary()`` and matters only to whoever starts it. The hold ends with ``release()``, at the latest
    with the process. A forked child does not hold it: let it acquire for itself if it may outlive its parent.
    Raises EmbeddedUnavailable, saying what to do.
    """
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "The embedded server needs Linux or macOS: on Windows, use WSL (wsl --install), or a URL."
        )
    try:
        place = Place(_home(home))
        place.prepare()
        return EmbeddedServer(place, binary)
    except OSError as error:
        raise EmbeddedUnavailable(
            f"The embedded server's directory cannot be used ({error}); set SISY_HOME to a directory of yours."
        ) from error


class EmbeddedServer:
    """One hold on the embedded server of a home directory; made by ``acquire``. Usable as a context manager."""

    def __init__(self, place: "Place", binary: Path | None) -> None:
        self._place = place
        self._binary = binary
        self._owner = os.getpid()
        self._guard = threading.Lock()
        self._users: int | None = None
        with place.starting():
            users = open_lock(place.users_lock)
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                ensure_up(place, binary)
                self.family, self.version = read_stamp(place.data)
            except BaseException:
                # Also on Ctrl-C: nobody else could ever close it, and the server would count a user for ever.
                os.close(users)
                raise
            self._users = users
        atexit.register(self.release)

    @property
    def home(self) -> Path:
        """The directory of this server's data and locks."""
        return self._place.home

    @property
    def url(self) -> str:
        """The ``unix://`` URL to connect to; the same for every user, and after a restart."""
        return f"unix://{quote(str(self._place.socket))}"

    def ensure_running(self) -> None:
        """Start the server again, from its append-only file, if it died; returns once it answers.

        Raises EmbeddedUnavailable if it cannot, or if this hold was released.
        """
        if self._users is None:
            raise EmbeddedUnavailable(f"The embedded server in {self.home} was released; acquire it again.")
        with self._place.starting():
            ensure_up(self._place, self._binary)

    def release(self) -> None:
        """Stop using the server. The last user stops it and returns when it is gone. Further calls do nothing."""
        with self._guard:
            users, self._users = self._users, None
        if users is None:
            return
        atexit.unregister(self.release)
        try:
            # A forked child only closes its copy: unlocking would end its parent's hold.
            if os.getpid() == self._owner:
                with self._place.starting():
                    if locked(users):
                        stop(self._place)
                    fcntl.flock(users, fcntl.LOCK_UN)
        except FileNotFoundError:
            logger.warning("%s is gone, so its embedded server could not be stopped", self.home)
        finally:
            os.close(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _home(home: str | Path | None) -> Path:
    try:
        return Path(home or os.environ.get("SISY_HOME") or "~/.sisy-redis").expanduser().resolve()
    except RuntimeError as error:
        raise EmbeddedUnavailable(
            "This user has no home directory; set SISY_HOME to a directory to keep data in."
        ) from error
