"""Userdata: a dict that comes back from storage as it went in."""

import json
import math
from typing import Any

from sisy_redis.errors import UserdataError

__all__ = ["LARGEST_BYTES", "check"]

LARGEST_BYTES = 64 * 1024
_DEEPEST = 32
_REQUIRED = "Userdata must be a dictionary of JSON-serializable data"


def check(userdata: Any) -> dict[str, Any]:
    """A copy that JSON and msgpack keep unchanged; tuples become lists, None and ``dict`` itself an empty dict.

    Raises UserdataError naming the offending key for what they would change or refuse (bytes, dates, sets, NaN,
    integers beyond 64 bits, keys that are not strings, more than 32 levels), or when it exceeds 64 KiB as UTF-8 JSON.
    """
    if userdata is None or userdata is dict:
        return {}
    if not isinstance(userdata, dict):
        raise UserdataError(f"{_REQUIRED}, not {type(userdata).__name__}")
    copy: dict[str, Any] = _copy(userdata, "", 1)
    size = _size(copy)
    if size > LARGEST_BYTES:
        largest = max(copy, key=lambda key: _size(copy[key]))
        raise UserdataError(
            f"{_REQUIRED} of at most {LARGEST_BYTES} bytes; this has {size}, most of them in {largest!r}: "
            "store it elsewhere and pass a reference"
        )
    return copy


def _copy(value: Any, where: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict | list | tuple) and depth > _DEEPEST:
        raise _refusal(where, f"is nested deeper than {_DEEPEST} levels")
    # Exact types: a subclass (an enum, a numpy float) would come back as something else.
    if type(value) is str:
        return _text(value, where)
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise _refusal(where, "is an integer beyond 64 bits")
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise _refusal(where, f"is {value}, which JSON has no form for")
        return value
    if isinstance(value, list | tuple):
        return [_copy(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {_key(key, where): _copy(item, _below(where, key), depth + 1) for key, item in value.items()}
    raise _refusal(where, f"is of the type {type(value).__name__}")


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _key(key: Any, where: str) -> str:
    if type(key) is not str:
        raise _refusal(where, f"has the key {key!r}, and keys must be strings")
    return _text(key, _below(where, key))


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refusal(where, f"is no valid text ({error.reason})") from error
    return value


def _refusal(where: str, what: str) -> UserdataError:
    # The name itself may be what cannot be encoded, and a message that cannot be printed hides it.
    name = where.encode(errors="backslashreplace").decode()
    return UserdataError(f"{_REQUIRED}: {name[:200] or 'it'} {what}")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
