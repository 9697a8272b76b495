"""The one door to Redis, and the only importer of redis: sends calls, maps errors, repeats what may be repeated.

Clients here never retry by themselves: after a lost reply only the layer that knows the call may send it again. Every call
is idempotent, so ``Transport.run`` repeats it, unchanged, while Redis cannot be reached.
"""

from sisy_redis.transport.asynchronous import AsyncTransport
from sisy_redis.transport.inspection import ServerFacts
from sisy_redis.transport.patience import Steps
from sisy_redis.transport.synchronous import Transport, partitions_of
from sisy_redis.transport.urls import check_url

__all__ = ["AsyncTransport", "ServerFacts", "Steps", "Transport", "check_url", "partitions_of"]
