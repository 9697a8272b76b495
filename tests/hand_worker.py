"""A worker by hand: claims and settles through the calls, one at a time, for tests that need no process."""

from dataclasses import dataclass

from sisy_redis import calls, operations
from sisy_redis.calls import Settlement
from sisy_redis.definitions import Attempt
from sisy_redis.keys import Space
from sisy_redis.transport import Transport


@dataclass
class HandWorker:
    """Serves partition 0 of a namespace."""

    space: Space
    transport: Transport
    boot: str = ""
    seq: int = 0

    def __post_init__(self) -> None:
        p = self.space.partition(0)
        (now_ms,) = self.transport.execute([calls.server_time(self.space)])
        op = operations.new_op(now_ms)
        (answer,) = self.transport.execute([calls.register(p, op, 60_000, ["default"], "hand")])
        self.boot = answer.boot

    def claim(self, slots: int = 10) -> tuple[Attempt, ...]:
        self.seq += 1
        call = calls.claim(self.space.partition(0), self.boot, self.seq, slots, ["default"])
        (answer,) = self.transport.execute([call])
        assert answer.status == "ok"
        return answer.attempts

    def settle(self, attempt: Attempt, action: str = "ok") -> bool:
        end = Settlement(attempt.run_id, attempt.token, action, attempt.queue)
        call = calls.settle(self.space.partition(0), self.boot, "hand", [end])
        ((answer,),) = self.transport.execute([call])
        return bool(answer == "settled")
