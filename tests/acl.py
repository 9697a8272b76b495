"""The least Redis ACL that works, as SECURITY.md and the README state it."""

import redis

COMMANDS = (
    # Scripts, and what they call; a server checks both against the user.
    *("eval", "evalsha", "time"),
    *("hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hrandfield", "hset", "hsetnx"),
    *("llen", "publish", "rpush", "xadd", "xtrim", "zadd", "zcard", "zrange", "zrem", "zscore"),
    # What is read without a script, hints, the name of a connection, and the server's version.
    *("hscan", "zscan", "zrevrange", "xrevrange", "blpop", "subscribe", "client|setname", "info"),
)
USER, PASSWORD = "sisy-least", "p-8e2d61c0f7"


def patterns(namespace: str) -> tuple[str, str, str]:
    """The keys of a namespace: those of its partitions, and its own; and its channels."""
    return f"~sisy:{{{namespace}:*", f"~sisy:{{{namespace}}}:*", f"&sisy:{{{namespace}:*"


def create(admin: "redis.Redis", *keys: str, user: str = USER, commands: tuple[str, ...] = COMMANDS) -> None:
    """A user with the least rights, for keys of these patterns only; one that exists is replaced."""
    allowed = [f"+{command}" for command in commands]
    admin.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *keys, *allowed)


def url_of(url: str, user: str = USER) -> str:
    """The URL with the user and password of ``create`` in it."""
    scheme, _, place = url.partition("://")
    return f"{scheme}://{user}:{PASSWORD}@{place.rpartition('@')[2]}"
