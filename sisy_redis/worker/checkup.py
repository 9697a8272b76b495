"""What a worker says at its start about a Redis that may lose what it acknowledges."""

import logging
from collections.abc import Iterator

from sisy_redis.errors import SisyError
from sisy_redis.transport import ServerFacts, Transport

log = logging.getLogger(__name__)


def warn_of_risks(transport: Transport) -> None:
    """Logs a warning for each risk of each primary; a server that does not let its CONFIG be read is left alone."""
    try:
        found = transport.server_facts()
    except SisyError as error:
        log.debug("the server could not be asked how it keeps data: %s", error)
        return
    for facts in found:
        for risk in risks_of(facts):
            log.warning("%s: %s", facts.name, risk)


def risks_of(facts: ServerFacts) -> Iterator[str]:
    """What may go wrong with a server that is configured so, and which option helps."""
    if facts.eviction_policy not in ("", "noeviction"):
        yield (
            f"maxmemory-policy is {facts.eviction_policy}: when memory is full, tasks and runs are DELETED; set noeviction"
        )
    if not facts.is_persistent:
        yield "nothing is persisted: a restart loses every task and run; set appendonly yes"
    if facts.replicas and not facts.min_replicas:
        yield (
            "it has replicas but min-replicas-to-write is 0: a primary that is cut off goes on accepting writes that the "
            "failover then loses; set min-replicas-to-write 1 and min-replicas-max-lag 2"
        )
