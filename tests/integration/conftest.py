"""Fixtures of tests that start real workers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fleet
import pytest
from producer import Producer

Start = Callable[..., fleet.Worker]


@pytest.fixture
def producer(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Producer]:
    made = Producer(redis_url, namespace, tmp_path / "journal")
    yield made
    made.transport.close()


@pytest.fixture
def start(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts workers; all are gone after the test."""
    started: list[fleet.Worker] = []

    def go(*options: str, url: str | None = redis_url, **kwargs: object) -> fleet.Worker:
        started.append(fleet.Worker(url, namespace, tmp_path, *options, **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield go
    for worker in started:
        worker.kill()
