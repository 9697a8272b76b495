"""Reads the ledger while it is written, and the whole namespace at the end: the stream keeps about 2,000 entries only."""

import threading
from contextlib import suppress
from typing import Any

import redis
from history import Line, read_line
from servers import Server

from sisy_redis.keys import Partition

_PAUSE_S = 0.2


class Collector(threading.Thread):
    """Keeps every line; it outlives a server that is away."""

    def __init__(self, server: Server, partition: Partition) -> None:
        super().__init__(daemon=True)
        self._server, self._key = server, partition.key("history")
        self._last = "0-0"
        self._stopped = threading.Event()
        self._texts: list[str] = []
        self._entries = 0

    def run(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            with suppress(redis.RedisError, OSError):
                self._read()

    def finish(self) -> tuple[Line, ...]:
        """The last lines too, and all of them in the server's order. Fails where the stream was cut before it was read."""
        self._stopped.set()
        self.join()
        self._read()
        with self._server.client() as client:
            added = int(client.xinfo_stream(self._key)["entries-added"])
        assert added == self._entries, f"{added} entries were written, {self._entries} were read: read more often"
        return tuple(read_line(position, text) for position, text in enumerate(self._texts))

    def _read(self) -> None:
        with self._server.client() as client:
            while entries := client.xrange(self._key, f"({self._last}", "+", count=500):
                for entry_id, fields in entries:
                    self._texts += fields[b"lines"].decode().split("\n")
                    self._last = entry_id.decode()
                    self._entries += 1


def dump(client: "redis.Redis", partition: Partition) -> dict[str, frozenset[str]]:
    """What the namespace holds: kind of key -> fields or members."""
    found: dict[str, set[str]] = {}
    prefix = partition.key("tasks").removesuffix("tasks")
    for raw in client.scan_iter(f"sisy:{{{partition.namespace}*", count=1000):
        key = raw.decode()
        kind = key.removeprefix(prefix).rpartition("}:")[2]
        name, has_suffix, _ = kind.partition(":")
        if has_suffix and name == "waiting":
            name = "waiting_queue"
        found.setdefault(name, set()).update(_members(client, key, name))
    return {kind: frozenset(members) for kind, members in found.items()}


def _members(client: "redis.Redis", key: str, kind: str) -> list[str]:
    of_type = client.type(key)
    rows: Any = []
    if of_type == b"hash":
        rows = client.hkeys(key)
    elif of_type == b"zset":
        rows = client.zrange(key, 0, -1)
    members = [row.decode() for row in rows]
    return [member.rpartition("\0")[2] for member in members] if kind == "labels" else members
