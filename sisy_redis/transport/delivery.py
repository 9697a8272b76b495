"""How a batch of calls reaches the nodes that serve it. Pure: yields what to send where, is sent what came back.

A command is sent again only where Redis said that it was not executed: to the node it moved to (MOVED, ASK), or whole where
the script was unknown (NOSCRIPT). After a lost reply nothing is sent again: that is for the layer that knows the call.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, ReadOnlyError

from sisy_redis.calls import Call
from sisy_redis.errors import SettingsError
from sisy_redis.transport.replies import Reply
from sisy_redis.transport.topology import Topology
from sisy_redis.transport.urls import Address

_ROUNDS = 6
_KEYLESS = frozenset(("TIME", "INFO", "CONFIG"))
_ACKNOWLEDGED = frozenset(("save", "claim"))
_SHORT_REST = 0.2
_LONG_REST = 5.0

Sent = list[Any] | Exception


@dataclass(frozen=True, slots=True)
class Parcel:
    """Commands for one node, to be sent in one round trip on one connection. ``address`` None: the only server."""

    address: Address | None
    commands: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """How many replicas have to confirm saves and claims, and how long that may take."""

    replicas: int = 0
    timeout_ms: int = 1000


@dataclass(slots=True)
class _Sending:
    """A call on its way. ``asked``: the node a slot is just moving to; ``whole``: with the script's text."""

    call: Call[Any]
    reply: Reply
    asked: Address | None = None
    whole: bool = False

    @property
    def key(self) -> str | None:
        if self.call.script is not None:
            return self.call.keys[0]
        return None if self.call.args[0] in _KEYLESS else str(self.call.args[1])

    @property
    def wants_acknowledgement(self) -> bool:
        return self.call.script is not None and self.call.script.name in _ACKNOWLEDGED

    def commands(self) -> list[tuple[Any, ...]]:
        before: list[tuple[Any, ...]] = [("ASKING",)] if self.asked else []
        script = self.call.script
        if script is None:
            return [*before, self.call.args]
        code = ("EVAL", script.text) if self.whole else ("EVALSHA", script.sha)
        return [*before, (*code, len(self.call.keys), *self.call.keys, *self.call.args)]


def deliver(
    batch: Sequence[Call[Any]], topology: Topology | None, wanted: Acknowledgement
) -> Generator[list[Parcel], list[Sent], list[Reply]]:
    """Sends every call once and returns their replies, each an answer or redis-py's error."""
    everything = [_Sending(call, Reply()) for call in batch]
    going = everything
    for _ in range(_ROUNDS):
        if topology is not None and topology.is_outdated:
            yield from refreshed(topology)
        groups = _grouped(going, topology)
        parcels = [_parcel(address, group, wanted) for address, group in groups]
        answers = (yield parcels) if parcels else []
        going = []
        for (address, group), answer in zip(groups, answers, strict=True):
            going += _received(group, answer, address, topology, wanted)
        if not going:
            break
    return [sending.reply for sending in everything]


def refreshed(topology: Topology) -> Generator[list[Parcel], list[Sent], None]:
    """Learns the map from the first node that knows it. Raises redis-py's error of the last one that was asked."""
    failure: Exception = redis.ConnectionError("no node of the cluster knows who serves the slots")
    for address in topology.to_ask():
        (answer,) = yield [Parcel(address, (("CLUSTER", "SLOTS"),))]
        if isinstance(answer, Exception):
            failure = answer
            topology.failed(address, _rest_after(answer))
        elif not isinstance(answer[0], Exception):
            if topology.learn(answer[0], address):
                return
        elif "cluster support disabled" in str(answer[0]):
            raise SettingsError(f"{address.host}:{address.port} is no node of a cluster; use redis:// in the Redis URL")
        else:
            failure = answer[0]
    raise failure


def _rest_after(error: Exception) -> float:
    """As long as it costs to notice a node that hangs, or a moment where it refused at once."""
    return _LONG_REST if isinstance(error, redis.TimeoutError) else _SHORT_REST


def _grouped(going: Sequence[_Sending], topology: Topology | None) -> list[tuple[Address | None, list[_Sending]]]:
    """The calls by the node they go to, in order; those nobody can take get their error at once."""
    if topology is None:
        return [(None, list(going))]
    groups: dict[Address, list[_Sending]] = {}
    # The clock of the node that decides about the batch is the one to ask.
    first_key = next((sending.key for sending in going if sending.key is not None), None)
    for sending in going:
        address = sending.asked or topology.serving(sending.key or first_key)
        if address is None:
            sending.reply.raw = redis.ConnectionError(f"no node serves the slot of {sending.key!r}")
            topology.doubt()
        elif topology.is_avoided(address):
            sending.reply.raw = redis.ConnectionError(f"{address.host}:{address.port} did not answer a moment ago")
        else:
            groups.setdefault(address, []).append(sending)
    return list(groups.items())


def _parcel(address: Address | None, group: Sequence[_Sending], wanted: Acknowledgement) -> Parcel:
    commands = [command for sending in group for command in sending.commands()]
    if _waits(group, wanted):
        # Behind the writes, on their connection: WAIT within a script does not block.
        commands.append(("WAIT", wanted.replicas, wanted.timeout_ms))
    return Parcel(address, tuple(commands))


def _waits(group: Sequence[_Sending], wanted: Acknowledgement) -> bool:
    return wanted.replicas > 0 and any(sending.wants_acknowledgement for sending in group)


def _received(
    group: Sequence[_Sending],
    answer: Sent,
    address: Address | None,
    topology: Topology | None,
    wanted: Acknowledgement,
) -> list[_Sending]:
    """Notes the replies of one parcel; returns the calls that were certainly not executed and go on their way again."""
    if isinstance(answer, Exception):
        for sending in group:
            sending.reply.raw = answer
        if topology is not None and address is not None:
            topology.failed(address, _rest_after(answer))
        return []
    left = list(answer)
    acknowledged = left.pop() if _waits(group, wanted) else None
    again = []
    for sending in group:
        if sending.asked is not None:
            left.pop(0)
        raw = left.pop(0)
        sending.reply.raw = raw
        if sending.wants_acknowledgement and acknowledged is not None:
            sending.reply.acknowledged = 0 if isinstance(acknowledged, Exception) else int(acknowledged)
        if isinstance(raw, Exception) and _goes_on(sending, raw, address, topology):
            again.append(sending)
    return again


def _goes_on(sending: _Sending, error: Exception, address: Address | None, topology: Topology | None) -> bool:
    if isinstance(error, NoScriptError) and not sending.whole:
        sending.whole = True
        return True
    sending.asked = None
    if topology is None or address is None:
        return False
    if isinstance(error, AskError):
        target = Address(error.host or address.host, int(error.port))
        if isinstance(error, MovedError):
            topology.moved(int(error.slot_id), target)
        else:
            sending.asked = target
        return True
    if isinstance(error, ClusterDownError | ReadOnlyError):
        topology.doubt()
    return False
