"""Real clusters and Sentinel set-ups for tests, on free ports of 127.0.0.1."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from servers import START_SECONDS, Server, free_port, plain_client
from waiting import poll

SLOTS = 16384
NODE_TIMEOUT_MS = 2000


class Cluster:
    """Primaries that share the slots equally, and as many replicas; nothing is persisted but who they are."""

    def __init__(self, start: Callable[..., Server], primaries: int = 3) -> None:
        self.nodes: list[Server] = []
        self._bus: dict[int, int] = {}
        for _ in range(2 * primaries):
            bus = free_port()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
            node = start(
                *options,
                "--cluster-port",
                str(bus),
                "--repl-diskless-sync-delay",
                "0",
                "--repl-ping-replica-period",
                "1",
            )
            self.nodes.append(node)
            self._bus[node.port] = bus
        self._join(primaries)

    def _join(self, primaries: int) -> None:
        first = self.nodes[0]
        for i, node in enumerate(self.nodes):
            with node.client() as client:
                if i < primaries:
                    low, high = i * SLOTS // primaries, (i + 1) * SLOTS // primaries - 1
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, self._bus[first.port])
        poll(lambda: all(len(self.rows(node)) == len(self.nodes) for node in self.nodes), 60, "all nodes met")
        for i, node in enumerate(self.nodes[primaries:]):
            with node.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", self.id_of(self.nodes[i]))
        poll(self.is_whole, 60, "the cluster is up with every replica in sync")

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def rows(self, asked: Server) -> list[list[str]]:
        """CLUSTER NODES as one node sees it, split."""
        with asked.client() as client:
            answer: Any = client.execute_command("CLUSTER NODES")
        if isinstance(answer, dict):
            return [[address, *map(str, row.values())] for address, row in answer.items()]
        return [line.split() for line in answer.decode().splitlines()]

    def id_of(self, node: Server) -> str:
        with node.client() as client:
            found: Any = client.execute_command("CLUSTER", "MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    def is_whole(self) -> bool:
        """Every node says that all is well and every replica follows its primary."""
        return all(_is_well(node) for node in self.nodes)

    def serving(self, slot: int, asked: Server | None = None) -> Server:
        """The primary of a slot, as a living node sees it."""
        for node in [asked] if asked else self.nodes:
            with suppress(redis.ConnectionError, redis.TimeoutError), node.client() as client:
                for first, last, primary, *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(n for n in self.nodes if n.port == primary[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def migrate(self, slot: int, source: Server, target: Server) -> None:
        """Moves a slot while it is in use, key by key, as redis-cli --cluster reshard does."""
        source_id, target_id = self.id_of(source), self.id_of(target)
        with source.client() as old, target.client() as new:
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 2):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            for client in (new, old):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def migrate_at_once(self, slot: int, source: Server, target: Server) -> bool:
        """Moves a slot atomically; False where the server cannot (before Valkey 9)."""
        with source.client() as old:
            try:
                command = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(target))
                old.execute_command(*command)
            except redis.ResponseError as error:
                if "nknown" in str(error):
                    return False
                raise
        return True


def _is_well(node: Server) -> bool:
    try:
        with node.client() as client:
            info: Any = client.execute_command("CLUSTER", "INFO")
            replication = client.info("replication")
    except (redis.ConnectionError, redis.TimeoutError):
        return False
    text = info.decode() if isinstance(info, bytes) else str(info)
    is_linked = replication["role"] == "master" or replication["master_link_status"] == "up"
    return (
        "cluster_state:ok" in text
        and is_linked
        and (replication["role"] != "master" or replication["connected_slaves"] > 0)
    )


class Sentinels:
    """A primary with a replica, and three Sentinels that watch it as ``service``."""

    service = "crew"

    def __init__(
        self, start: Callable[..., Server], folder: Path, options: Sequence[str] = (), down_after_ms: int = 1000
    ) -> None:
        self.primary = start("--repl-diskless-sync-delay", "0", *options)
        self.replica = start(
            "--repl-diskless-sync-delay", "0", "--replicaof", f"127.0.0.1 {self.primary.port}", *options
        )
        poll(lambda: _link_is_up(self.replica), 30, "the replica follows")
        self._folder, self._down_after_ms = folder, down_after_ms
        self.ports: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def watch(self) -> None:
        """Starts the Sentinels and waits until they know each other, without which there is no failover."""
        for i in range(3):
            self._start(i)
        poll(lambda: all(self._is_ready(port) for port in self.ports), 60, "the Sentinels know each other")

    def _start(self, i: int) -> None:
        port = free_port()
        home = self._folder / f"sentinel{i}"
        home.mkdir()
        (home / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {home}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {self.service} {self._down_after_ms}\n"
            f"sentinel failover-timeout {self.service} 6000\n"
        )
        with (home / "sentinel.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [self.primary.program, str(home / "sentinel.conf"), "--sentinel"],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        self.ports.append(port)
        poll(lambda: self._answers(port), START_SECONDS, "the Sentinel answers")

    def _answers(self, port: int) -> bool:
        try:
            with plain_client(f"redis://127.0.0.1:{port}") as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def _is_ready(self, port: int) -> bool:
        with plain_client(f"redis://127.0.0.1:{port}") as client:
            state = client.sentinel_masters()[self.service]
        return state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 and state["is_master"]

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + f"/{self.service}"

    def primary_port(self) -> int:
        """Which port the Sentinels give out."""
        with plain_client(f"redis://127.0.0.1:{self.ports[0]}") as client:
            return int(client.sentinel_get_master_addr_by_name(self.service)[1])

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _link_is_up(replica: Server) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def pause(server: Server) -> None:
    """SIGSTOP: connections stay open and nothing is answered."""
    os.kill(server.pid, signal.SIGSTOP)


def resume(server: Server) -> None:
    os.kill(server.pid, signal.SIGCONT)


def until(deadline_s: float) -> Callable[[], bool]:
    """A condition that comes true after a while: for load to go on in the meantime."""
    end = time.monotonic() + deadline_s
    return lambda: time.monotonic() > end
