"""How one attempt ended, as the pools saw it, and what a callable's exception or result says about that."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sisy_redis import retry
from sisy_redis.control import Cancelled, Discard, Retry
from sisy_redis.definitions import Outcome

_LONGEST_ERROR = 4096
_LARGEST_RESULT = 4096


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt ended. ``started_ms`` is this machine's wall clock, for display; ``result`` is JSON, "" for none.

    ``raised``: the dotted names of the exception's class and its bases.
    """

    outcome: Outcome
    error: str = ""
    started_ms: int = 0
    seconds: float = 0.0
    result: str = ""
    raised: tuple[str, ...] = ()
    wants_retry: bool = False
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception says of its attempt."""

    text: str
    raised: tuple[str, ...] = ()
    outcome: Outcome = Outcome.FAILED
    wants_retry: bool = False
    retry_after_ms: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "Failure":
        """Raises KeyError, TypeError or ValueError for anything ``to_wire`` did not make."""
        return cls(**{**data, "raised": tuple(data["raised"]), "outcome": Outcome(data["outcome"])})


def failure_of(error: BaseException) -> Failure:
    """What the exception of a callable says."""
    raised = retry.names_of(type(error))
    if isinstance(error, Discard | Cancelled):
        return Failure(str(error), raised, Outcome.CANCELLED)
    if isinstance(error, Retry):
        return Failure(describe_error(error), raised, wants_retry=True, retry_after_ms=error.after_ms)
    return Failure(describe_error(error), raised)


def result_of(value: Any) -> str:
    """What a callable returned, as JSON; "" for None, and a remark where it cannot be kept."""
    if value is None:
        return ""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(f"a {type(value).__name__}, which is no JSON")
    size = len(text.encode())
    return (
        text if size <= _LARGEST_RESULT else json.dumps(f"{size} bytes, more than the {_LARGEST_RESULT} that are kept")
    )


def describe_error(error: BaseException) -> str:
    """The traceback from the user's first frame on, as UTF-8 at most 4 KiB: its end is kept when it is longer."""
    frames = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("sisy_redis.worker"):
        frames = frames.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    except Exception:  # noqa: BLE001 - it asks the user's error for its text: the edge
        text = f"{type(error).__name__}, whose traceback cannot be shown"
    # A lone surrogate would be refused by the codec, long after the run.
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= _LONGEST_ERROR:
        return raw.decode()
    mark = "…"
    return mark + raw[len(mark.encode()) - _LONGEST_ERROR :].decode("utf-8", "ignore")
