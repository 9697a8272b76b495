"""Definitions to stored bytes and back. The only importer of msgpack; nothing that can execute is ever read."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from uuid import UUID

import msgpack

from sisy_redis.definitions import (
    CallableRef,
    Definition,
    DstRule,
    FuncType,
    Keep,
    Misfire,
    Overlap,
    Pool,
    RetryPolicy,
    Seal,
    Stored,
    Wait,
    WaitKind,
)
from sisy_redis.errors import SisyError
from sisy_redis.signing import SIGNATURE_BYTES, Signer

RECORD_VERSION = "1"
_ENUMS = {"dst": DstRule, "pool": Pool}
_POLICY: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "overlap": ("overlap", Overlap),
    "keep": ("keep", Keep),
    "running": ("max_running", int),
    "buffer": ("buffer_limit", int),
    "misfire": ("misfire", Misfire),
    "grace": ("misfire_grace_ms", int),
    "window": ("catchup_window_ms", int),
    "catchup": ("max_catchup", int),
    "jitter": ("jitter_ms", int),
    "enabled": ("enabled", lambda text: {"0": False, "1": True}[text]),
    "end": ("end_ms", int),
    "pause_after": ("pause_after", int),
    "redeliveries": ("max_redeliveries", int),
}
"""What the scripts decide by: the name in the record's line, the field, and how its text is read."""
_IN_HEADER = {"id", "label", "callable", "queue", *(field for field, _ in _POLICY.values())}
_DEFAULTS = {f.name: f.default for f in fields(Definition)}
_BODY_FIELDS = [f for f in fields(Definition) if f.name not in _IN_HEADER]
# A signed body: a msgpack extension of type 1 with the signature, then the map. Every other body begins with the map.
_SIGNED = bytes((0xC7, SIGNATURE_BYTES, 1))
_SIGNED_FOR = "sisy-redis definition 1"


class CorruptRecord(SisyError):
    """A stored task that this release cannot read; its bytes are left as they are."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A definition in the parts that ``save`` stores."""

    policy: str
    body: bytes


def encode(definition: Definition, signer: Signer | None = None) -> Encoded:
    """The parts of a record that do not stand in plain text already. Fields at their default are left out."""
    body: dict[str, Any] = {}
    values = {field: getattr(definition, field) for field, _ in _POLICY.values()}
    if _is_once(definition.schedule):
        # A one-off run is never dropped: the scripts see a policy that drops nothing, the body keeps what was saved.
        body = {"once": [str(values["misfire"]), values["catchup_window_ms"]]}
        values |= {"misfire": Misfire.COALESCE, "catchup_window_ms": 0}
    policy = ",".join(
        f"{name}={int(value) if isinstance(value, bool) else value}"
        for name, (field, _) in _POLICY.items()
        if (value := values[field]) != _DEFAULTS[field]
    )
    for field in _BODY_FIELDS:
        value = getattr(definition, field.name)
        if field.name == "retry":
            value = asdict(value) if value else None
        if value is not None and value != field.default and value != {}:
            body[field.name] = str(value) if field.name in _ENUMS else value
    body |= _encode_callable(definition.callable)
    policy, packed = policy or "-", msgpack.packb(body)
    if signer is not None:
        path, label = definition.callable.path, definition.label
        message = _signed_message(signer, definition.id, definition.queue, policy, path, label, packed)
        packed = _SIGNED + signer.keyring.sign(message) + packed
    return Encoded(policy, packed)


def _signed_message(signer: Signer, *parts: str | bytes) -> bytes:
    """What a signature covers, packed so that no two definitions give the same bytes."""
    packed: bytes = msgpack.packb([_SIGNED_FOR, signer.namespace, *parts])
    return packed


def _seal(signer: Signer | None, signature: bytes, *parts: str | bytes) -> Seal:
    if signer is None:
        return Seal.UNCHECKED
    return signer.keyring.check(_signed_message(signer, *parts), signature) if signature else Seal.MISSING


def distrust(stored: Stored) -> str | None:
    """Why a reader with keys must not act on the record; None when it may."""
    if stored.seal is Seal.MISSING:
        return "is not signed, and this worker has a secret key"
    if stored.seal is Seal.WRONG:
        return "was altered, or signed for another id or namespace or with a key unknown here"
    return None


def decode(task_id: str, record: bytes, signer: Signer | None = None) -> Stored:
    """The task of a stored record, with what its signature says; who acts on it asks ``distrust`` first.

    Raises CorruptRecord for bytes that are truncated, altered or from a newer release.
    """
    try:
        header, _, body = record.partition(b"\n")
        version, generation, edition, _op, _created, queue, policy, path, label = header.decode().split(" ", 8)
        if version != RECORD_VERSION:
            raise CorruptRecord(
                f"task {task_id}: its record has version {version}, this release reads {RECORD_VERSION}"
            )
        signature = b""
        if body.startswith(_SIGNED):
            start = len(_SIGNED) + SIGNATURE_BYTES
            signature, body = body[len(_SIGNED) : start], body[start:]
        seal = _seal(signer, signature, task_id, queue, policy, path, label or path, body)
        values = msgpack.unpackb(body)
        decided = _decode_policy(policy)
        if "once" in values:
            misfire, decided["catchup_window_ms"] = values.pop("once")
            decided["misfire"] = Misfire(misfire)
        definition = Definition(
            id=task_id,
            label=label or path,
            queue=queue,
            callable=_decode_callable(path, values),
            **decided,
            **_decode_fields(values),
        )
        return Stored(definition, int(generation), int(edition), seal)
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise CorruptRecord(f"task {task_id}: its record cannot be read ({error}); it was left as it is") from error


def _decode_policy(text: str) -> dict[str, Any]:
    found = {}
    for part in text.split(",") if text != "-" else ():
        name, _, value = part.partition("=")
        field, read = _POLICY[name]
        found[field] = read(value)
    return found


def _is_once(schedule: str) -> bool:
    return schedule.strip().lower() == "@once"


def _encode_callable(ref: CallableRef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ref.class_name:
        found["class"] = ref.class_name
    if ref.func_type is not FuncType.FUNCTION:
        found["type"] = str(ref.func_type)
    if not ref.takes_message:
        found["kwargs"] = True
    if ref.model_pk is not None:
        found["pk"] = ["uuid", ref.model_pk.hex] if isinstance(ref.model_pk, UUID) else ["", ref.model_pk]
    return found


def _decode_callable(path: str, values: dict[str, Any]) -> CallableRef:
    class_name = values.pop("class", None)
    owner, _, func_name = path.rpartition(".")
    kind, pk = values.pop("pk", ("", None))
    return CallableRef(
        path=path,
        func_type=FuncType(values.pop("type", "function")),
        module_name=owner[: -len(class_name) - 1] if class_name else owner,
        func_name=func_name,
        class_name=class_name,
        model_pk=UUID(pk) if kind == "uuid" else pk,
        takes_message=not values.pop("kwargs", False),
    )


def _decode_fields(values: dict[str, Any]) -> dict[str, Any]:
    for name, kind in _ENUMS.items():
        if name in values:
            values[name] = kind(values[name])
    if values.get("retry"):
        wait = dict(values["retry"]["wait"])
        wait["kind"] = WaitKind(wait["kind"])
        names = {kind: tuple(values["retry"][kind]) for kind in ("on", "never")}
        values["retry"] = RetryPolicy(attempts=values["retry"]["attempts"], wait=Wait(**wait), **names)
    return values
