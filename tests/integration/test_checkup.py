"""What a worker says at its start about a server that may lose what it acknowledges."""

from collections.abc import Callable
from pathlib import Path

import fleet
import pytest
from clusters import Sentinels
from servers import Server

KEEPS = ("--appendonly", "yes")


def _said(url: str, folder: Path) -> str:
    worker = fleet.Worker(url, "crew", folder, "--burst")
    try:
        # What it says, it says before its first claim.
        worker.process.wait(30)
        return worker.output
    finally:
        worker.kill()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_an_eviction_policy_is_warned_of(server_factory: Callable[..., Server], tmp_path: Path, policy: str) -> None:
    said = _said(server_factory(*KEEPS, "--maxmemory-policy", policy).url, tmp_path)
    assert f"maxmemory-policy is {policy}" in said and "set noeviction" in said
    assert "nothing is persisted" not in said


def test_missing_persistence_is_warned_of(server_factory: Callable[..., Server], tmp_path: Path) -> None:
    said = _said(server_factory().url, tmp_path)
    assert "nothing is persisted" in said
    assert "maxmemory-policy" not in said and "min-replicas-to-write" not in said


@pytest.mark.parametrize("options", [KEEPS, ("--save", "900 1")])
def test_a_server_that_keeps_everything_is_not_warned_of(
    server_factory: Callable[..., Server], tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert "WARNING" not in _said(server_factory(*options).url, tmp_path)


@pytest.mark.parametrize(("least", "is_warned"), [("0", True), ("1", False)])
def test_replicas_without_min_replicas_to_write_are_warned_of(
    server_factory: Callable[..., Server], tmp_path: Path, least: str, is_warned: bool
) -> None:
    pair = Sentinels(server_factory, tmp_path, (*KEEPS, "--min-replicas-to-write", least))
    assert ("min-replicas-to-write is 0" in _said(pair.primary.url, tmp_path)) is is_warned


def test_a_server_that_does_not_tell_its_configuration_is_left_alone(
    server_factory: Callable[..., Server], tmp_path: Path
) -> None:
    server = server_factory("--maxmemory-policy", "allkeys-lru")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "crew", "on", ">secret", "~*", "&*", "+@all", "-config")
    said = _said(server.url.replace("://", "://crew:secret@"), tmp_path)
    assert "WARNING" not in said and "ERROR" not in said
