"""Retry policies as stored numbers. tenacity's wait objects are read once, when a task is made, and never run."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import tenacity

from sisy_redis.definitions import RetryPolicy, Wait, WaitKind
from sisy_redis.errors import TaskError

__all__ = ["Retrying", "applies", "delay_ms", "names_of", "policy"]

_MOST_ATTEMPTS = 1000
_MOST_NAMES = 50
_LONGEST_MS = 7 * 86_400_000
_KNOWN = (
    "seconds, a timedelta, or tenacity's wait_none, wait_fixed, wait_incrementing, wait_exponential, "
    "wait_exponential_jitter, wait_random or wait_random_exponential"
)


def Retrying(  # noqa: N802 - reads as the value it makes
    attempts: int, wait: Any = 0, *, on: Any = (), never: Any = ()
) -> RetryPolicy:
    """At most ``attempts`` tries of a run, the first included, ``wait`` before each further one.

    ``wait`` is a number of seconds, a timedelta, or one of tenacity's wait objects that can be stored as numbers; every
    delay is at most seven days. ``on`` and ``never`` are exception classes or their dotted names, one or several: only after
    one of ``on``, if any is named, and not after one of ``never`` is a run tried again. Raises TaskError for anything else.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= _MOST_ATTEMPTS:
        raise TaskError(f"retry takes 1 to {_MOST_ATTEMPTS} attempts, the first try included, not {attempts!r}")
    return RetryPolicy(attempts=attempts, wait=_wait(wait), on=_names("on", on), never=_names("never", never))


def policy(retry: Any) -> RetryPolicy | None:
    """The policy meant by None, a number of attempts, ``(attempts, wait)``, a dict of ``Retrying``'s arguments, or a RetryPolicy.

    Raises TaskError for one that cannot be stored.
    """
    if retry is None:
        return None
    if isinstance(retry, RetryPolicy):
        checked = Retrying(retry.attempts, on=retry.on, never=retry.never)
        return replace(checked, wait=_checked(retry.wait))
    if isinstance(retry, Mapping):
        unknown = set(retry) - {"attempts", "wait", "on", "never"}
        if unknown or "attempts" not in retry:
            raise TaskError(f"retry takes the fields attempts, wait, on and never, not {sorted(map(str, retry))}")
        return Retrying(**retry)
    if isinstance(retry, tuple | list) and len(retry) == 2:
        return Retrying(*retry)
    return Retrying(retry)


def applies(policy: RetryPolicy, raised: Sequence[str]) -> bool:
    """Whether a run may be tried again after an exception whose class and bases have these dotted names."""
    names = set(raised)
    return not names.intersection(policy.never) and (not policy.on or bool(names.intersection(policy.on)))


def names_of(kind: type[BaseException]) -> tuple[str, ...]:
    """The dotted names of an exception class and its bases."""
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__ if issubclass(base, BaseException))


def delay_ms(policy: RetryPolicy, failed_attempt: int, seed: str) -> int | None:
    """Milliseconds before the next attempt after ``failed_attempt`` (from 1) failed; None when none is left.

    A random part is drawn from ``seed`` and the attempt, so that the same question has the same answer.
    """
    if failed_attempt >= policy.attempts:
        return None
    wait, growths, share = policy.wait, max(0, failed_attempt - 1), _share(f"{seed}:{failed_attempt}")
    match wait.kind:
        case WaitKind.FIXED:
            delay = float(wait.start_ms)
        case WaitKind.LINEAR:
            delay = float(wait.start_ms + wait.step_ms * growths)
        case WaitKind.RANDOM:
            delay = wait.start_ms + share * (wait.max_ms - wait.start_ms)
        case WaitKind.EXPONENTIAL:
            delay = max(float(wait.start_ms), _grown(wait, growths))
        case WaitKind.RANDOM_EXPONENTIAL:
            delay = wait.start_ms + share * max(0.0, _grown(wait, growths) - wait.start_ms)
    return int(min(max(0.0, delay + share * wait.jitter_ms), float(wait.max_ms)))


def _grown(wait: Wait, growths: int) -> float:
    try:
        return min(float(wait.max_ms), wait.step_ms * float(wait.base) ** growths)
    except OverflowError:
        return float(wait.max_ms)


def _names(what: str, given: Any) -> tuple[str, ...]:
    found = []
    for one in given if isinstance(given, tuple | list | set | frozenset) else (given,):
        if isinstance(one, type) and issubclass(one, BaseException):
            found.append(names_of(one)[0])
        elif isinstance(one, str) and all(part.isidentifier() for part in one.split(".")):
            found.append(one if "." in one else f"builtins.{one}")
        else:
            raise TaskError(f"retry's {what} takes exception classes or their dotted names, not {one!r}")
    if len(found) > _MOST_NAMES:
        raise TaskError(f"retry's {what} takes at most {_MOST_NAMES} exceptions")
    return tuple(dict.fromkeys(found))


def _wait(wait: Any) -> Wait:
    w, fixed = wait, _fixed_seconds(wait)
    if fixed is not None:
        return _checked(Wait(start_ms=_ms(fixed), max_ms=_LONGEST_MS))
    # The exact class: a subclass may compute anything. Tenacity names these attributes after its parameters.
    match type(wait):
        case tenacity.wait_incrementing:
            made = Wait(kind=WaitKind.LINEAR, start_ms=_ms(w.start), step_ms=_ms(w.increment), max_ms=_ms(w.max))
        case tenacity.wait_random:
            low, high = _ms(w.wait_random_min), _ms(w.wait_random_max)
            made = Wait(kind=WaitKind.RANDOM, start_ms=low, max_ms=high)
        case tenacity.wait_exponential:
            made = _exponential(WaitKind.EXPONENTIAL, w, w.multiplier)
        case tenacity.wait_random_exponential:
            made = _exponential(WaitKind.RANDOM_EXPONENTIAL, w, w.multiplier)
        case tenacity.wait_exponential_jitter:
            # Before tenacity 9.1 its start was called initial.
            start = w.multiplier if hasattr(w, "multiplier") else w.initial
            made = _exponential(WaitKind.EXPONENTIAL, w, start, jitter=w.jitter)
        case _:
            raise TaskError(f"retry cannot store the wait {wait!r}; it takes {_KNOWN}")
    return _checked(made)


def _fixed_seconds(wait: Any) -> float | None:
    if isinstance(wait, timedelta):
        return wait.total_seconds()
    if isinstance(wait, int | float) and not isinstance(wait, bool):
        return wait
    if type(wait) in (tenacity.wait_fixed, tenacity.wait_none):
        return float(wait.wait_fixed)
    return None


def _exponential(kind: WaitKind, wait: Any, start: float, jitter: float = 0) -> Wait:
    return Wait(
        kind=kind,
        start_ms=_ms(getattr(wait, "min", 0)),
        step_ms=_ms(start),
        base=float(wait.exp_base),
        max_ms=_ms(wait.max),
        jitter_ms=_ms(jitter),
    )


def _checked(wait: Wait) -> Wait:
    if not isinstance(wait, Wait):
        raise TaskError(f"retry cannot store the wait {wait!r}; it takes {_KNOWN}")
    for name in ("start_ms", "step_ms", "max_ms", "jitter_ms"):
        value = getattr(wait, name)
        if type(value) is not int or not 0 <= value <= _LONGEST_MS:
            raise TaskError(f"a retry's {name} is a whole number from 0 to {_LONGEST_MS}, not {value!r}")
    if not isinstance(wait.base, int | float) or not math.isfinite(wait.base) or wait.base < 0:
        raise TaskError(f"a retry's base is a number of 0 or more, not {wait.base!r}")
    if wait.start_ms > wait.max_ms:
        raise TaskError(f"a retry's least wait of {wait.start_ms} ms is above its longest of {wait.max_ms} ms")
    return wait


def _ms(seconds: Any) -> int:
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise TaskError(f"a retry cannot wait {seconds!r} seconds; give a number of 0 or more")
    return _LONGEST_MS if seconds >= _LONGEST_MS / 1000 else round(seconds * 1000)


def _share(seed: str) -> float:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
