"""Which Redis sisy's face speaks to: the current run's, else the settings' server, connected once per process."""

import os
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

from sisy_redis import embedded, settings
from sisy_redis.embedded import Server
from sisy_redis.keys import Space
from sisy_redis.signing import Keyring, signer_for
from sisy_redis.transport import Transport, partitions_of

__all__ = ["Located", "RunContext", "Session", "close", "current_run", "locate", "session"]


@dataclass(frozen=True, slots=True)
class Session:
    """A namespace and the way to it."""

    space: Space
    transport: Transport


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run that is going on in this thread or coroutine, and how its worker reaches Redis.

    ``session`` None: as the settings say.
    """

    run_id: str
    token: int
    boot: str
    task_id: str
    session: Session | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Located:
    """A server that was found, held if it is embedded, and a namespace of it whose partition count was checked."""

    server: Server
    space: Space


current_run: ContextVar[RunContext | None] = ContextVar("sisy_current_run", default=None)


def locate(url: str | None, namespace: str) -> Located:
    """Finds the server of ``url``, else of the settings, else the embedded one, and checks the namespace on it.

    Raises SettingsError, EmbeddedUnavailable or RedisUnavailable.
    """
    server = embedded.resolve(url)
    try:
        now = settings.current()
        partitions = now.partitions
        space = Space(namespace, partitions, signer=signer_for(now.secret_key, namespace))
        probe = Transport(server.url)
        try:
            partitions_of(probe, space, partitions)
        finally:
            probe.close()
    except BaseException:
        # Also on Ctrl-C: a hold on the embedded server that nobody knows of would keep it up.
        server.release()
        raise
    return Located(server, space)


_Key = tuple[str | None, str, int, int, Keyring | None]


@dataclass(slots=True)
class _Sessions:
    """The sessions of one process. A forked child gets its own: it must share neither sockets nor a held lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    opened: dict[_Key, tuple[Session, Server]] = field(default_factory=dict)


_by_process: dict[int, _Sessions] = {}


def session() -> Session:
    """The session of the run that is going on, else the one the settings name, opened on first use.

    Raises SettingsError, EmbeddedUnavailable or RedisUnavailable.
    """
    run = current_run.get()
    if run is not None and run.session is not None:
        return run.session
    now = settings.current()
    key = (now.redis_url, now.namespace, now.partitions, now.wait_replicas, now.secret_key)
    sessions = _by_process.setdefault(os.getpid(), _Sessions())
    found = sessions.opened.get(key)
    if found is None:
        with sessions.lock:
            found = sessions.opened.get(key)
            if found is None:
                located = locate(None, now.namespace)
                transport = Transport(located.server.url, wait_replicas=now.wait_replicas)
                found = (Session(located.space, transport), located.server)
                sessions.opened[key] = found
    return found[0]


def close() -> None:
    """Closes what ``session`` opened in this process; the next use opens it again."""
    sessions = _by_process.pop(os.getpid(), None)
    for opened, server in sessions.opened.values() if sessions else ():
        opened.transport.close()
        server.release()
