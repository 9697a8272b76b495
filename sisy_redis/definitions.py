"""The values everything else speaks in: frozen dataclasses and enums, without behaviour or I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sisy_redis.clock import FAR_FUTURE_MS

HAS_NOT_RUN_MS = 0


class FuncType(StrEnum):
    """How a callable is reached from its dotted path."""

    FUNCTION = "function"
    CLASSMETHOD = "classmethod"
    STATICMETHOD = "staticmethod"
    INSTANCEMETHOD = "instancemethod"


class Overlap(StrEnum):
    """What happens to an occurrence while the task has as many open runs as it may (``max_running``).

    ALLOW sets no limit. SKIP lets it go. BUFFER_ONE holds one back until a run ends, BUFFER_ALL all of them, up to a bound.
    CANCEL_OTHER ends the open runs, and holds it back until they have ended.
    """

    ALLOW = "allow"
    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"


class Keep(StrEnum):
    """Which occurrence ``buffer_one`` keeps."""

    FIRST = "first"
    LATEST = "latest"


class Misfire(StrEnum):
    """What is done about occurrences decided later than their grace."""

    COALESCE = "coalesce"
    ALL = "all"
    SKIP = "skip"


class DstRule(StrEnum):
    """How a task at a fixed local time crosses a daylight-saving change (Debian cron's rule is the default)."""

    CRON = "cron"
    SKIP = "skip"
    BOTH = "both"


class Pool(StrEnum):
    """Where a plain function runs; coroutines always run on the worker's loop."""

    THREAD = "thread"
    PROCESS = "process"


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"


class Reason(StrEnum):
    """Why an occurrence became no run."""

    OVERLAP = "overlap"
    PAUSED = "paused"
    DISABLED = "disabled"
    COALESCED = "coalesced"
    MISFIRE = "misfire"
    WINDOW = "window"
    LIMIT = "limit"
    EDITED = "edited"
    SKIPPED = "skipped"


class Seal(StrEnum):
    """What a record's signature says to a reader: nothing where that has no key (unchecked)."""

    UNCHECKED = "unchecked"
    CURRENT = "current"
    FORMER = "former"
    MISSING = "missing"
    WRONG = "wrong"


class WaitKind(StrEnum):
    """How the delay before a retry grows."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    RANDOM = "random"
    RANDOM_EXPONENTIAL = "random_exponential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A retry delay as numbers, so that it can be stored. All in milliseconds but ``base``."""

    kind: WaitKind = WaitKind.FIXED
    start_ms: int = 0
    step_ms: int = 0
    base: float = 2.0
    max_ms: int = 86_400_000
    jitter_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """At most ``attempts`` tries of one run (the first included), ``wait`` between them.

    Only after exceptions of ``on``, where it names any, and never after one of ``never``: dotted names of exception classes,
    their subclasses included.
    """

    attempts: int = 1
    wait: Wait = field(default_factory=Wait)
    on: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableRef:
    """A callable by its dotted path. ``takes_message``: it is called with ``message=``, otherwise with ``**userdata``."""

    path: str
    func_type: FuncType = FuncType.FUNCTION
    module_name: str
    func_name: str
    class_name: str | None = None
    model_pk: Any = None
    takes_message: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A task as its user saved it. Times are UTC milliseconds.

    ``schedule`` is a cron expression (five fields, an optional sixth for seconds, or an @alias), ``@every <seconds>``
    (``anchor_ms`` is one of its instants) or ``@once`` (due at ``start_ms``, at once when that is 0).
    """

    id: str
    label: str
    callable: CallableRef
    schedule: str = "* * * * *"
    tz: str = "UTC"
    dst: DstRule = DstRule.CRON
    anchor_ms: int | None = None
    queue: str = "default"
    enabled: bool = True
    start_ms: int = HAS_NOT_RUN_MS
    end_ms: int = FAR_FUTURE_MS
    wait_for_schedule: bool = True
    iterations: int = 0
    overlap: Overlap = Overlap.ALLOW
    keep: Keep = Keep.FIRST
    max_running: int = 1
    buffer_limit: int = 100
    misfire: Misfire = Misfire.COALESCE
    misfire_grace_ms: int = 60_000
    catchup_window_ms: int = 86_400_000
    max_catchup: int = 100
    jitter_ms: int = 0
    min_gap_ms: int = 0
    pause_after: int = 0
    max_redeliveries: int = 3
    retry: RetryPolicy | None = None
    timeout_ms: int = 0
    pool: Pool = Pool.THREAD
    userdata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition with what the server gave it. ``generation`` and ``version`` are microsecond sequence numbers.

    ``seal``: what its signature says.
    """

    definition: Definition
    generation: int
    version: int
    seal: Seal = Seal.UNCHECKED


@dataclass(frozen=True, slots=True)
class Segment:
    """``count`` instants from ``first_ms`` every ``step_ms``; ``count=None`` never ends."""

    first_ms: int
    step_ms: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Coming occurrences, ascending. ``complete``: the schedule has none after these.

    ``has_beside``: the first is beside the schedule, a one-off or a first run at once.
    """

    segments: tuple[Segment, ...] = ()
    complete: bool = False
    has_beside: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """A range of occurrences that become no runs. ``count`` is None where they were too many to count."""

    reason: Reason
    count: int | None
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Replan:
    """What to do with a task whose plan ran out: ``dropped`` goes to the ledger, ``plan`` is what may still run."""

    dropped: tuple[Dropped, ...]
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One granted try of a run, as a worker holds it."""

    run_id: str
    token: int
    number: int
    losses: int
    nominal_ms: int
    previous_ms: int | None
    stored: Stored
    queue: str
