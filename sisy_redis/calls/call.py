"""What every call is make_call of: a script or a command, complete, and how to read its answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sisy_redis.keys import Partition
from sisy_redis.scripts import Script, script

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One command to send, complete, and how to read its answer. ``script`` is None for a plain read."""

    script: Script | None
    keys: tuple[str, ...]
    args: tuple[Any, ...]
    decode: Callable[[Any], T]


def make_call(
    name: str,
    decode: Callable[[Any], T],
    partition: Partition,
    args: dict[str, Any],
    *,
    keys: dict[str, str] | None = None,
    key_rest: Sequence[str] = (),
    arg_rest: Sequence[Any] = (),
) -> Call[T]:
    """The call of a script: keys that are not given are the partition's own of that name."""
    found = script(name)
    given = keys or {}
    named_keys = {kind: given.get(kind) or partition.key(kind) for kind in found.keys.names}
    if "now_ms" in found.args.names:
        args["now_ms"] = partition.now_arg
    ordered = found.keys.order(named_keys, key_rest)
    return Call(found, tuple(map(str, ordered)), tuple(found.args.order(args, arg_rest)), decode)


def read(decode: Callable[[Any], T], command: str, *args: Any) -> Call[T]:
    """A plain read command."""
    return Call(None, (), (command, *args), decode)


def text(value: Any) -> str:
    """A reply as text, whatever the protocol make_call of it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def status_of(reply: Any) -> str:
    """The word a reply starts with."""
    return text(reply[0])


def queue_keys(p: Partition, queues: Sequence[str]) -> list[str]:
    """The keys of queues, a pair (due, waiting) each."""
    return [key for queue in queues for key in (p.due(queue), p.waiting_queue(queue))]
