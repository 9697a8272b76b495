"""Every setting of the package: its unit, default, bound and reason, and where its value comes from.

A value set with ``configure`` wins over the environment, the environment over Django's settings, they over the default.
Nothing is read at import: ``current()`` resolves all of them when it is called. Django is never imported from here; its
settings count when the program has imported and configured it.
"""

import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, Unpack
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sisy_redis.errors import SettingsError
from sisy_redis.signing import Keyring

__all__ = ["Settings", "check", "configure", "current", "origin"]

PREFIX = "SISY_"
URL_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
MAX_SCHEDULE_CHARACTERS = 256
MAX_HEARTBEAT_SECONDS = 366 * 24 * 3600.0
MAX_PARTITIONS = 1024
MIN_SECRET_CHARACTERS, MAX_SECRET_CHARACTERS, MAX_SECRETS = 16, 512, 8
_RANDOM_KEY = "make one with python -c 'import secrets; print(secrets.token_hex(32))'"
MAX_WAIT_REPLICAS = 100
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Unfit(Exception):
    """What is wrong with a raw value; its text follows the setting's name and source."""


def _read_redis_url(raw: object) -> str:
    if not isinstance(raw, str):
        raise _Unfit("is not text; give a URL such as redis://127.0.0.1:6379/0")
    scheme = raw.partition("://")[0] if "://" in raw else ""
    # The URL itself stays out of the message: it may hold a password.
    if scheme not in URL_SCHEMES:
        raise _Unfit(f"does not start with one of {', '.join(f'{known}://' for known in URL_SCHEMES)}; add the scheme")
    return raw


def _read_namespace(raw: object) -> str:
    if not isinstance(raw, str) or not _NAMESPACE.fullmatch(raw):
        raise _Unfit(f"is {raw!r}; use 1 to 64 letters, digits, '_', '.' or '-' (no braces or colons)")
    return raw


def _read_schedule(raw: object) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise _Unfit(f"is {raw!r}; give a cron expression such as '* * * * *'")
    if len(raw) > MAX_SCHEDULE_CHARACTERS:
        raise _Unfit(f"has {len(raw)} characters; a cron expression has at most {MAX_SCHEDULE_CHARACTERS}")
    return raw


def _read_time_zone(raw: object) -> str:
    refusal = f"is {raw!r}, which is no known time zone; give an IANA name such as 'UTC' or 'Europe/Berlin'"
    if not isinstance(raw, str) or not raw:
        raise _Unfit(refusal)
    try:
        ZoneInfo(raw)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _Unfit(refusal) from error
    return raw


def _read_heartbeat(raw: object) -> float:
    refusal = f"is {raw!r}; give a number of seconds above 0 and at most {MAX_HEARTBEAT_SECONDS:.0f}, or leave it unset"
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise _Unfit(refusal)
    try:
        seconds = float(raw)
    except (ValueError, OverflowError) as error:
        raise _Unfit(refusal) from error
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_HEARTBEAT_SECONDS:
        raise _Unfit(refusal)
    return seconds


def _whole_number(low: int, high: int) -> Callable[[object], int]:
    def read(raw: object) -> int:
        refusal = f"is {raw!r}; give a whole number from {low} to {high}"
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            raise _Unfit(refusal)
        try:
            count = int(raw)
        except ValueError as error:
            raise _Unfit(refusal) from error
        if not low <= count <= high:
            raise _Unfit(refusal)
        return count

    return read


def _read_secret_key(raw: object) -> Keyring:
    if isinstance(raw, Keyring):
        return raw
    # Neither the keys nor a part of them stand in a message.
    if not isinstance(raw, str):
        raise _Unfit("is not text; give a random text, or several joined by commas: the first signs, all verify")
    keys = [part.strip() for part in raw.split(",")]
    if not all(MIN_SECRET_CHARACTERS <= len(key) <= MAX_SECRET_CHARACTERS for key in keys):
        raise _Unfit(f"has a key outside {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters; {_RANDOM_KEY}")
    if len(keys) > MAX_SECRETS:
        raise _Unfit(f"has {len(keys)} keys; at most {MAX_SECRETS} are checked, drop those that nothing is signed with")
    if not all(key.isprintable() for key in keys):
        raise _Unfit(f"has a key with characters that cannot be printed; {_RANDOM_KEY}")
    return Keyring(keys)


def _setting(
    default: Any, read: Callable[[object], Any], *, unit: str, bound: str, reason: str, shown: bool = True
) -> Any:
    return field(default=default, repr=shown, metadata={"read": read, "unit": unit, "bound": bound, "reason": reason})


@dataclass(frozen=True)
class Settings:
    """The settings in force. Get them from ``current()``; ``dataclasses.replace`` makes a checked variant.

    Raises SettingsError for a value outside its bounds. ``None`` means unset. Each field's ``metadata`` carries its
    ``unit``, ``bound`` and ``reason`` as text.
    """

    redis_url: str | None = _setting(
        None,
        _read_redis_url,
        unit="URL",
        bound="scheme " + ", ".join(URL_SCHEMES),
        reason="the only server that is used when set; unset, an embedded server is started",
        shown=False,  # it may hold a password
    )
    namespace: str = _setting(
        "sisy",
        _read_namespace,
        unit="name",
        bound="1 to 64 of A-Z a-z 0-9 _ . -",
        reason="keeps several schedulers on one server apart; it is part of every key, so no braces or colons",
    )
    default_schedule: str = _setting(
        "* * * * *",
        _read_schedule,
        unit="cron expression",
        bound=f"1 to {MAX_SCHEDULE_CHARACTERS} characters",
        reason="the schedule of a task that is created without one; read in full when such a task is created",
    )
    time_zone: str = _setting(
        "UTC",
        _read_time_zone,
        unit="IANA name",
        bound="known to the system's or the tzdata package's database",
        reason="the zone of a task that is created without one",
    )
    heartbeat_frequency: float | None = _setting(
        None,
        _read_heartbeat,
        unit="seconds",
        bound=f"above 0, at most {MAX_HEARTBEAT_SECONDS:.0f}",
        reason="the least time between two fires of any task saved under it; unset, schedules fire as written",
    )
    partitions: int = _setting(
        1,
        _whole_number(1, MAX_PARTITIONS),
        unit="partitions",
        bound=f"1 to {MAX_PARTITIONS}",
        reason="spreads a namespace over a cluster; fixed when the namespace is first used (48 suits a cluster)",
    )
    secret_key: Keyring | None = _setting(
        None,
        _read_secret_key,
        unit="keys joined by commas",
        bound=f"1 to {MAX_SECRETS} of {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters",
        reason="signs the definitions that are saved; workers with it run only signed ones (the first signs, all verify)",
        shown=False,
    )
    wait_replicas: int = _setting(
        0,
        _whole_number(0, MAX_WAIT_REPLICAS),
        unit="replicas",
        bound=f"0 to {MAX_WAIT_REPLICAS}",
        reason="how many must acknowledge a save, and a claim before its runs start; what they have outlives a failover",
    )

    def __post_init__(self) -> None:
        for name in _READERS:
            value = getattr(self, name)
            if value is not None or _DEFAULTS[name] is not None:
                object.__setattr__(self, name, _checked(name, value, name))


class Overrides(TypedDict, total=False):
    """What ``configure`` takes: the fields of ``Settings``; None gives a field back to the next source."""

    redis_url: str | None
    namespace: str | None
    default_schedule: str | None
    time_zone: str | None
    heartbeat_frequency: float | None
    partitions: int | None
    secret_key: str | None
    wait_replicas: int | None


_READERS: Mapping[str, Callable[[object], Any]] = {each.name: each.metadata["read"] for each in fields(Settings)}
_DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(Settings)}
_configured: dict[str, Any] = {}
_configured_lock = threading.Lock()


def configure(**overrides: Unpack[Overrides]) -> None:
    """Set settings for this process, from now on; they win over the environment and Django's settings.

    Names are the fields of ``Settings``, without prefix. Fields that are not named keep what they had, and None gives a
    field back to the environment, Django's settings or the default. Raises SettingsError, with nothing changed, for an
    unknown name or a value that is not allowed.
    """
    read: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in _READERS:
            raise SettingsError(f"Unknown setting {name!r}; configure() takes {', '.join(_READERS)}")
        read[name] = None if value is None else _checked(name, value, f"{name} (from configure)")
    with _configured_lock:
        _configured.update(read)


def current() -> Settings:
    """The settings in force now: ``configure``, then ``SISY_*`` variables, then Django's settings, then the defaults.

    An empty variable counts as unset. Raises SettingsError that says which setting of which source is wrong, and how.
    """
    with _configured_lock:
        configured = dict(_configured)
    return Settings(**{name: _resolve(name, configured)[0] for name in _READERS})


def check(name: str, value: object, source: str) -> Any:
    """The setting ``name`` as read from ``value``. Raises SettingsError that names the ``source``."""
    return _checked(name, value, source)


def origin(name: str) -> str:
    """Where the value of the setting ``name`` comes from now: "SISY_NAMESPACE (from the environment)" or "default"."""
    with _configured_lock:
        configured = dict(_configured)
    return _resolve(name, configured)[1]


def _resolve(name: str, configured: Mapping[str, Any]) -> tuple[Any, str]:
    for source, raw in _candidates(name, configured.get(name)):
        if raw is not None and raw != "":
            return _checked(name, raw, source), source
    return _DEFAULTS[name], "default"


def _candidates(name: str, configured: object) -> Iterator[tuple[str, object]]:
    yield f"{name} (from configure)", configured
    variable = PREFIX + name.upper()
    yield f"{variable} (from the environment)", os.environ.get(variable)
    # A django.conf that is still being imported has no settings yet; unconfigured ones would raise when read.
    django_settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if getattr(django_settings, "configured", False):
        yield f"{variable} (from Django's settings)", getattr(django_settings, variable, None)


def _checked(name: str, raw: object, source: str) -> Any:
    try:
        return _READERS[name](raw)
    except _Unfit as unfit:
        raise SettingsError(f"{source} {unfit}") from unfit.__cause__
