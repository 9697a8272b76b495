"""From the command line's options to Redis."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from sisy_redis import context, queries, settings, views
from sisy_redis.scheduler import Scheduler
from sisy_redis.transport import Transport, check_url
from sisy_redis.views import TaskView

_PAGE = 200


@contextmanager
def scheduler(chosen: argparse.Namespace) -> Iterator[Scheduler]:
    """A scheduler for the server and namespace that were asked for."""
    url, namespace = _checked(chosen)
    with Scheduler(url, namespace=namespace) as opened:
        yield opened


def pages(chosen: argparse.Namespace, label: str | None, limit: int | None) -> Iterator[list[TaskView]]:
    """The tasks in the order of their labels, a few hundred at a time, so that a million need no more memory."""
    url, namespace = _checked(chosen)
    located = context.locate(url, namespace)
    transport = Transport(located.server.url)
    left = limit
    try:
        for partition in located.space.all_partitions():
            after: str | None = None
            while left is None or left > 0:
                count = _PAGE if left is None else min(_PAGE, left)
                after, ids = transport.run(queries.page_by_label(partition, after, label, count))
                states = transport.run(queries.load_states(located.space, ids))
                left = None if left is None else left - len(states)
                yield [views.view_of(state) for state in states]
                if after is None:
                    break
    finally:
        transport.close()
        located.server.release()


def _checked(chosen: argparse.Namespace) -> tuple[str | None, str]:
    now = settings.current()
    namespace = settings.Settings(namespace=getattr(chosen, "namespace", None) or now.namespace).namespace
    url: str | None = getattr(chosen, "redis_url", None)
    if url is not None:
        url = settings.Settings(redis_url=url).redis_url
    for found in filter(None, (url, now.redis_url)):
        check_url(found)
    return url, namespace
