"""From an attempt to its settlement: find the callable, check that it may run, run it, say how it ended."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from sisy_redis import callables, clock, context, models, registry, settings
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, CallableRef, FuncType, Outcome, Pool
from sisy_redis.worker.deadlines import Deadlines
from sisy_redis.worker.ending import Ended
from sisy_redis.worker.lane import Ending, Lane
from sisy_redis.worker.pools import Pools, awaited
from sisy_redis.worker.settling import settlement_of

log = logging.getLogger(__name__)

_MOST_REFUSED = 100


@dataclass(frozen=True, slots=True)
class Resolved:
    """A callable this worker found and may call."""

    func: Callable[..., Any]
    is_coroutine: bool


class Runner:
    """Runs attempts in the pools; ``on_settled`` hears each one's lane and settlement, on the event loop."""

    def __init__(
        self,
        pools: Pools,
        allow: callables.AllowList,
        session: context.Session,
        worker: str,
        imports: tuple[str, ...],
        deadlines: Deadlines,
        on_settled: Callable[[Lane, Ending], None],
    ) -> None:
        self._pools = pools
        self._allow = allow
        self._session = session
        self._worker = worker
        self._imports = imports
        self._deadlines = deadlines
        self._on_settled = on_settled
        self._resolved: dict[CallableRef, Resolved] = {}
        self._callbacks: set[asyncio.Task[None]] = set()
        self._going: dict[str, context.RunContext] = {}
        self.refused: dict[str, str] = {}

    def is_known(self, attempt: Attempt) -> bool:
        """Whether the attempt's callable was found before, so that ``begin`` can call it."""
        return replace(attempt.stored.definition.callable, model_pk=None) in self._resolved

    async def find(self, lane: Lane, attempt: Attempt) -> bool:
        """Finds the attempt's callable; one that this worker cannot call is given back with the reason."""
        ref = attempt.stored.definition.callable
        if await self._resolve(ref) is not None:
            return True
        reason = f"{ref.path} {self.refused[ref.path]}"
        refused = Settlement(attempt.run_id, attempt.token, "unroutable", attempt.queue, text=reason)
        self._on_settled(lane, Ending(refused))
        return False

    def begin(self, lane: Lane, attempt: Attempt, now_ms: int) -> None:
        """Starts an attempt whose callable is known."""
        definition = attempt.stored.definition
        resolved = self._resolved[replace(definition.callable, model_pk=None)]
        run = self._run_context(lane, attempt)
        message = self._message(attempt, run, now_ms)

        def on_end(_key: str, ended: Ended) -> None:
            self._deadlines.end(attempt.run_id, attempt.token)
            if self._going.get(attempt.run_id) is run:
                del self._going[attempt.run_id]
            settlement = settlement_of(attempt, ended)
            self._on_settled(lane, Ending(settlement, self._callback(attempt, settlement, message)))

        self._going[attempt.run_id] = run
        self._deadlines.begin(lane.lease, attempt)
        if definition.pool is Pool.PROCESS:
            request = self._request(attempt, run, message)
            self._pools.start_process(attempt.run_id, request, timeout_ms=definition.timeout_ms, on_end=on_end)
            return
        self._pools.start(
            attempt.run_id,
            self._bound(attempt, resolved, run, message),
            is_coroutine=resolved.is_coroutine,
            timeout_ms=definition.timeout_ms,
            on_end=on_end,
        )

    def ask_to_end(self, run_id: str) -> None:
        """Somebody asked for the end of a run; nothing where this worker does not run it."""
        run = self._going.get(run_id)
        if run is not None and not run.cancelled.is_set():
            log.info("run %s is asked to end", run_id)
            run.cancelled.set()
            self._pools.ask_to_end(run_id)

    async def _resolve(self, ref: CallableRef) -> Resolved | None:
        reason = self._allow.reason_to_refuse(ref)
        if reason is None:
            try:
                func = await asyncio.to_thread(callables.resolve, ref)
                reason = self._allow.reason_to_refuse(ref, func)
            except callables.Unroutable as error:
                reason = str(error)
            if reason is None:
                resolved = Resolved(func, inspect.iscoroutinefunction(func))
                self._resolved[replace(ref, model_pk=None)] = resolved
                return resolved
        log.warning("%s is left for other workers: %s", ref.path, reason)
        self._refuse(ref.path, " ".join(reason.split()))
        return None

    def refuse_record(self, mark: str, reason: str) -> None:
        """Keeps a record that must not be acted on from being granted to this worker, until it is another record."""
        log.error("task %s is not run: %s", mark.rpartition(" ")[0], reason)
        self._refuse(mark, reason)

    def _refuse(self, what: str, reason: str) -> None:
        while len(self.refused) >= _MOST_REFUSED:
            self.refused.pop(next(iter(self.refused)))
        self.refused[what] = reason

    def _run_context(self, lane: Lane, attempt: Attempt) -> context.RunContext:
        return context.RunContext(
            run_id=attempt.run_id,
            token=attempt.token,
            boot=lane.lease.boot,
            task_id=attempt.stored.definition.id,
            session=self._session,
        )

    def _message(self, attempt: Attempt, run: context.RunContext, now_ms: int) -> dict[str, Any]:
        nominal = clock.from_ms(attempt.nominal_ms)
        previous = None if attempt.previous_ms is None else clock.from_ms(attempt.previous_ms)
        details = MappingProxyType(
            {
                "run_id": attempt.run_id,
                "nominal": nominal,
                "previous": previous,
                "interval": (previous, nominal),
                "attempt": attempt.number,
                "token": attempt.token,
                "lateness": max(0, now_ms - attempt.nominal_ms) / 1000,
                "worker": self._worker,
            }
        )
        task = models.Task.from_stored(attempt.stored).for_run(run)
        return {"task": task, "message": details, "channel_message": details}

    def _bound(
        self, attempt: Attempt, resolved: Resolved, run: context.RunContext, message: dict[str, Any]
    ) -> Callable[[], Any]:
        ref = attempt.stored.definition.callable
        arguments = {"message": message} if ref.takes_message else dict(attempt.stored.definition.userdata)

        is_method = ref.func_type is FuncType.INSTANCEMETHOD

        async def call_coroutine() -> Any:
            context.current_run.set(run)
            func = await asyncio.to_thread(callables.bind_instance, ref, resolved.func) if is_method else resolved.func
            return await func(**arguments)

        def call() -> Any:
            context.current_run.set(run)
            func = callables.bind_instance(ref, resolved.func) if is_method else resolved.func
            return awaited(func(**arguments))

        return call_coroutine if resolved.is_coroutine else call

    def _request(self, attempt: Attempt, run: context.RunContext, message: dict[str, Any]) -> dict[str, Any]:
        definition, signer = attempt.stored.definition, self._session.space.signer
        details = dict(message["message"])
        del details["interval"]
        for name in ("nominal", "previous"):
            details[name] = details[name] and details[name].isoformat()
        return {
            "funcinfo": callables.funcinfo_to_wire(definition.callable),
            "imports": list(self._imports),
            "task": {"id": definition.id, "label": definition.label, "userdata": definition.userdata},
            "message": details,
            "settings": {
                "redis_url": self._session.transport.url,
                "namespace": self._session.space.namespace,
                "partitions": self._session.space.partitions,
                "secret_key": signer and signer.keyring.reveal(),
                "wait_replicas": settings.current().wait_replicas,
            },
            "run": {"run_id": run.run_id, "token": run.token, "boot": run.boot, "task_id": run.task_id},
        }

    def _callback(self, attempt: Attempt, settlement: Settlement, message: dict[str, Any]) -> Callable[[], None] | None:
        """What is to be called once Redis knows that the run has ended; None for nothing."""
        definition = attempt.stored.definition
        declared = registry.declared(definition.id, definition.callable.path)
        if declared is None or settlement.action not in (Outcome.OK, Outcome.FAILED, Outcome.TIMEOUT):
            return None
        hook = declared.on_success if settlement.action == Outcome.OK else declared.on_failure
        return None if hook is None else lambda: self._call_back(hook, message)

    def _call_back(self, hook: Callable[..., Any], message: dict[str, Any]) -> None:
        message["task"].for_run(None)
        task = asyncio.get_running_loop().create_task(call_hook(hook, message))
        self._callbacks.add(task)
        task.add_done_callback(self._callbacks.discard)

    async def finish_callbacks(self, timeout_s: float) -> None:
        """Waits for the callbacks that are going on; those that take longer are cancelled."""
        if not self._callbacks:
            return
        _, late = await asyncio.wait(set(self._callbacks), timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("%d callbacks did not end in time and were cancelled", len(late))


async def call_hook(hook: Callable[..., Any], *arguments: Any) -> None:
    """Calls a user's hook, plain or coroutine; what it raises is logged and harms nothing."""
    try:
        if inspect.iscoroutinefunction(hook):
            await hook(*arguments)
        else:
            await asyncio.to_thread(hook, *arguments)
    except Exception:  # noqa: BLE001 - a user's callable: the edge
        log.exception("hook %s failed", getattr(hook, "__qualname__", hook))
