"""What a Redis URL names: one server, a cluster by some of its nodes, or a service by its Sentinels. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from redis.connection import parse_url

from sisy_redis.errors import SettingsError

_PORT = 6379
_SENTINEL_PORT = 26379
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_BAD_PORT = "the Redis URL's port is no number; a password with / or : in it must be percent-encoded"


class Kind(StrEnum):
    """How the URL leads to a server."""

    SINGLE = "single"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, read. ``options`` are redis-py's for each server, ``sentinel_options`` those for the Sentinels."""

    kind: Kind
    url: str = field(repr=False)
    seeds: tuple[Address, ...] = ()
    service: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def check_url(url: str) -> None:
    """Raises SettingsError for a URL that no client here can use."""
    target_of(url)


def target_of(url: str) -> Target:
    """Raises SettingsError that never quotes the URL: what was taken for a port may be part of a password."""
    scheme, _, variant = url.partition("://")[0].partition("+")
    if scheme == "unix" and not variant:
        return Target(Kind.SINGLE, url)
    if scheme not in ("redis", "rediss") or variant not in ("", "cluster", "sentinel"):
        raise SettingsError(
            f"the Redis URL has the scheme {url.partition('://')[0]!r}; use redis://, rediss:// or unix://, "
            "or redis+cluster://, rediss+cluster://, redis+sentinel://, rediss+sentinel://"
        )
    if not variant:
        try:
            urlsplit(url).port  # noqa: B018 - it raises
        except ValueError:
            raise SettingsError(_BAD_PORT) from None
        return Target(Kind.SINGLE, url)
    return _of_many(url, scheme, Kind(variant))


def _of_many(url: str, scheme: str, kind: Kind) -> Target:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    default_port = _SENTINEL_PORT if kind is Kind.SENTINEL else _PORT
    seeds = tuple(_address(each, default_port) for each in hosts.split(",") if each)
    if not seeds:
        raise SettingsError(f"the Redis URL names no host; give redis+{kind}://host:port, several joined by commas")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if kind is Kind.SENTINEL:
        if not path:
            raise SettingsError("the Redis URL names no service; give redis+sentinel://host:port/service")
        service = path.pop(0)
    db = path.pop(0) if path else "0"
    if path or not db.isascii() or not db.isdigit():
        raise SettingsError("the Redis URL's path is wrong; give /service/database to Sentinels, to a cluster nothing")
    single = urlunsplit((scheme, f"{user}{at}host", f"/{db}", parts.query, ""))
    try:
        options = parse_url(single)
    except ValueError as error:
        raise SettingsError(f"the Redis URL has a bad option: {error}") from None
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if kind is Kind.CLUSTER and options.pop("db", 0) != 0:
        raise SettingsError("a cluster has only the database 0; leave it out of the Redis URL")
    if scheme == "rediss":
        options["ssl"] = True
    sentinel = {n.removeprefix("sentinel_"): options.pop(n) for n in _SENTINEL_OPTIONS if n in options}
    # The Sentinels of a service with TLS are asked with the same certificates.
    sentinel |= {name: value for name, value in options.items() if name == "ssl" or name.startswith("ssl_")}
    return Target(kind, url, seeds, service, options, sentinel)


def _address(text: str, default_port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        return Address(parts.hostname or "127.0.0.1", default_port if parts.port is None else parts.port)
    except ValueError:
        raise SettingsError(_BAD_PORT) from None
