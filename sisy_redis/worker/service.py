"""One worker process: start-up, signals, drain."""

import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field

from sisy_redis import __version__, callables, clock, context, embedded, operations, registry, settings
from sisy_redis.embedded import EmbeddedUnavailable
from sisy_redis.errors import NotAcknowledged, RedisUnavailable, SettingsError, SisyError
from sisy_redis.keys import Space
from sisy_redis.signing import signer_for
from sisy_redis.transport import AsyncTransport, Transport, check_url, partitions_of
from sisy_redis.worker.checkup import warn_of_risks
from sisy_redis.worker.deadlines import Deadlines
from sisy_redis.worker.keeper import LeaseKeeper
from sisy_redis.worker.logs import mask_password
from sisy_redis.worker.loop import Loop
from sisy_redis.worker.options import WorkerOptions
from sisy_redis.worker.pools import Pools
from sisy_redis.worker.runner import Runner, call_hook

log = logging.getLogger(__name__)

_CALLBACK_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """The server this worker uses and how it was found."""

    url: str = field(repr=False)
    how: str


def run(options: WorkerOptions) -> int:
    """Works until a signal, or until nothing is due in a burst; returns the exit code.

    0 is well, 1 failed, 2 wrong usage or settings, 3 no server program for an embedded server.
    """
    with ExitStack() as stack:
        try:
            place = _find_server(options, stack)
            namespace = _namespace(options)
            settings.configure(redis_url=place.url, namespace=namespace)
            for module in options.imports:
                _import(module)
            return asyncio.run(_serve(options, place))
        except SettingsError as error:
            return _fail(error, 2)
        except EmbeddedUnavailable as error:
            return _fail(error, 3)
        except SisyError as error:
            return _fail(error, 1)


def _fail(error: Exception, code: int) -> int:
    print(f"sisy-redis: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import runs a user's code: the edge
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        log.debug("importing %s failed", module, exc_info=error)
        raise SisyError(f"--import {module} failed: {type(error).__name__}: {error}{place}") from error


def check_usage(options: WorkerOptions) -> None:
    """Raises SettingsError for a URL or namespace that no worker process could use."""
    if options.redis_url and not options.embedded:
        url = settings.check("redis_url", options.redis_url, _source_of_url(options))
        check_url(url)
    _namespace(options)


def _namespace(options: WorkerOptions) -> str:
    given = options.namespace
    return str(settings.check("namespace", given, "--namespace") if given else settings.current().namespace)


def _source_of_url(options: WorkerOptions) -> str:
    is_variable = os.environ.get("SISY_REDIS_URL", "").strip() == options.redis_url
    return "SISY_REDIS_URL (from the environment)" if is_variable else "--redis-url"


def _find_server(options: WorkerOptions, stack: ExitStack) -> Place:
    check_usage(options)
    if options.redis_url and not options.embedded:
        return Place(options.redis_url, _source_of_url(options))
    configured = settings.current().redis_url
    if configured and not options.embedded:
        return Place(configured, settings.origin("redis_url"))
    server = stack.enter_context(embedded.acquire())
    return Place(server.url, f"EMBEDDED, version {server.version}")


def _banner(options: WorkerOptions, place: Place, space: Space, server: str) -> str:
    zone = settings.current().time_zone
    return "\n".join(
        (
            f"sisy-redis {__version__}, process {os.getpid()}",
            f"  server     {mask_password(place.url)} ({server}; {place.how})",
            f"  namespace  {space.namespace}, {space.partitions} partition(s), queues {', '.join(options.queues)}",
            f"  time zone  {zone}",
            f"  slots      {options.concurrency}, lease {options.lease:g} s, drain timeout {options.drain_timeout:g} s",
        )
    )


def _announce(options: WorkerOptions, banner: str) -> None:
    if options.log_format == "json":
        log.info("started", extra={"banner": banner})
    else:
        print(banner, file=sys.stderr, flush=True)


async def _connect(transport: Transport) -> tuple[Space, str]:
    """The namespace, with what the imported modules declare saved in it; waits for Redis as long as it takes."""
    wanted = settings.current().partitions
    pause, is_first = 0.2, True
    while True:
        try:
            now = settings.current()
            space = Space(now.namespace, wanted, signer=signer_for(now.secret_key, now.namespace))
            await asyncio.to_thread(partitions_of, transport, space, wanted)
            await _save_registered(space, transport)
            return space, await asyncio.to_thread(transport.server_version)
        except RedisUnavailable as error:
            if is_first:
                log.error("%s; waiting for it", error)
                is_first = False
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)


async def _serve(options: WorkerOptions, place: Place) -> int:
    stopping = _Signals()
    lease_transport = Transport(place.url, patience=0.0, socket_timeout=max(0.5, min(5.0, options.lease / 3)))
    # Not the one of the leases, whose short timeout leaves no time for replicas to acknowledge.
    replicas = settings.current().wait_replicas
    first_transport = Transport(place.url, patience=0.0, wait_replicas=replicas)
    connecting = asyncio.ensure_future(_connect(first_transport))
    await asyncio.wait({connecting, stopping.task}, return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return 0
    space, server = connecting.result()
    _announce(options, _banner(options, place, space, server))
    await asyncio.to_thread(warn_of_risks, first_transport)
    first_transport.close()
    transport = AsyncTransport(place.url, patience=0.0, wait_replicas=replicas)
    pools = Pools(asyncio.get_running_loop(), options.concurrency)
    loop, keeper = _assemble(options, place, space, transport, lease_transport, pools)
    for hook in registry.worker_start_hooks():
        await call_hook(hook)
    stopping.tell(loop)
    keeper.start()
    try:
        await loop.serve(burst=options.burst)
        drained_by = clock.monotonic() + options.drain_timeout
        await loop.drain(options.drain_timeout)
        await loop.runner.finish_callbacks(max(_CALLBACK_GRACE, drained_by - clock.monotonic()))
    finally:
        keeper.stop()
        pools.close()
        for hook in registry.worker_stop_hooks():
            await call_hook(hook)
        await transport.close()
        lease_transport.close()
    stopping.leave_if_zombies(pools)
    return 0


def _assemble(
    options: WorkerOptions,
    place: Place,
    space: Space,
    transport: AsyncTransport,
    lease_transport: Transport,
    pools: Pools,
) -> tuple[Loop, LeaseKeeper]:
    name = f"{socket.gethostname()}:{os.getpid()}".replace(" ", "-")
    deadlines = Deadlines()
    keeper = LeaseKeeper(
        lease_transport,
        space,
        options.lease,
        name,
        deadlines,
        on_lost=lambda lease: loop.on_lost(lease),
        on_cancels=lambda run_ids: loop.hear_cancels(run_ids),
        on_live=lambda lease, runs: loop.on_live(lease, runs),
    )
    loop = Loop(
        transport,
        keeper,
        space,
        queues=options.queues,
        slots=options.concurrency,
        lease_s=options.lease,
        name=name,
        pools=pools,
    )
    session = context.Session(space, Transport(place.url, wait_replicas=settings.current().wait_replicas))
    allow = callables.AllowList(set(registry.registered()), options.allow)
    loop.runner = Runner(pools, allow, session, name, options.imports, deadlines, loop.on_settled)
    return loop, keeper


async def _save_registered(space: Space, transport: Transport) -> None:
    definitions = registry.definitions()
    if definitions:
        try:
            await asyncio.to_thread(transport.run, operations.save_all(space, definitions))
        except NotAcknowledged as error:
            # No reason not to work; the next worker that starts saves them again.
            log.warning("the declared tasks are %s", error)


class _Signals:
    """SIGTERM and SIGINT: the first stops claiming and drains, the second leaves at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: Loop | None = None
        self.task = asyncio.ensure_future(self._event.wait())
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._received)

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def tell(self, loop: Loop) -> None:
        self._loop = loop
        if self.is_set:
            loop.stop()

    def _received(self) -> None:
        if self.is_set:
            os._exit(1)
        log.info("stopping: claims nothing more, waits for what runs")
        self._event.set()
        if self._loop is not None:
            self._loop.stop()

    def leave_if_zombies(self, pools: Pools) -> None:
        """A thread that goes on after its run was ended cannot be stopped; it must not keep the process."""
        if pools.zombies:
            sys.stderr.flush()
            os._exit(0)
