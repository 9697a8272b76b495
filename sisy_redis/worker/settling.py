"""How an attempt's end becomes its settlement: an outcome, or a retry with its delay."""

from sisy_redis import retry
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, Outcome
from sisy_redis.worker.pools import Ended


def settlement_of(attempt: Attempt, ended: Ended) -> Settlement:
    """What to tell Redis of an attempt that ended so."""
    action, delay_ms = str(ended.outcome), 0
    if ended.outcome in (Outcome.FAILED, Outcome.TIMEOUT):
        policy = attempt.stored.definition.retry
        failures = max(1, attempt.number - attempt.losses)
        delay = retry.delay_ms(policy, failures, attempt.run_id) if policy else None
        if delay is not None:
            action, delay_ms = "retry", delay
    return Settlement(
        attempt.run_id,
        attempt.token,
        action,
        attempt.queue,
        delay_ms,
        ended.started_ms,
        int(ended.seconds * 1000),
        ended.error or ("timeout" if ended.outcome is Outcome.TIMEOUT else ""),
    )
