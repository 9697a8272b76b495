"""How an attempt's end becomes its settlement: an outcome, or a retry with its delay."""

from sisy_redis import retry
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt, Outcome
from sisy_redis.worker.ending import Ended

_MOST_ASKED = 100
_TIMEOUT_NAMES = retry.names_of(TimeoutError)


def settlement_of(attempt: Attempt, ended: Ended) -> Settlement:
    """What to tell Redis of an attempt that ended so."""
    delay = _delay_ms(attempt, ended) if ended.outcome in (Outcome.FAILED, Outcome.TIMEOUT) else None
    action = str(ended.outcome) if delay is None else "retry"
    return Settlement(
        attempt.run_id,
        attempt.token,
        action,
        attempt.queue,
        delay or 0,
        ended.started_ms,
        int(ended.seconds * 1000),
        ended.error or ("timeout" if ended.outcome is Outcome.TIMEOUT else ""),
        ended.result,
        is_dead=action in (Outcome.FAILED, Outcome.TIMEOUT) and attempt.stored.definition.retry is not None,
    )


def _delay_ms(attempt: Attempt, ended: Ended) -> int | None:
    """How long to wait before the next attempt; None for no further one."""
    policy = attempt.stored.definition.retry
    failures = max(1, attempt.number - attempt.losses)
    if ended.wants_retry:
        if failures >= (policy.attempts if policy else _MOST_ASKED):
            return None
        own = retry.delay_ms(policy, failures, attempt.run_id) if policy else 0
        return own if ended.retry_after_ms is None else ended.retry_after_ms
    raised = _TIMEOUT_NAMES if ended.outcome is Outcome.TIMEOUT else ended.raised
    if policy is None or not retry.applies(policy, raised):
        return None
    return retry.delay_ms(policy, failures, attempt.run_id)
