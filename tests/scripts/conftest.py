"""The laboratory: calls sent by hand, each twice, at an instant the test chooses."""

from collections.abc import Iterator

import pytest
import redis
from lab import Lab


@pytest.fixture
def lab(redis_url: str, client: "redis.Redis", namespace: str) -> Iterator[Lab]:
    """A namespace with one partition, at T0."""
    opened = Lab(redis_url, client, namespace)
    yield opened
    opened.close()
