"""Definitions survive storage; what cannot be read is said to be, and nothing that can execute is ever read."""

import pickle
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgpack
import pytest

from sisy_redis import codec
from sisy_redis.codec import CorruptRecord
from sisy_redis.definitions import (
    CallableRef,
    Definition,
    DstRule,
    FuncType,
    Keep,
    Misfire,
    Overlap,
    Pool,
    RetryPolicy,
    Stored,
    Wait,
    WaitKind,
)

FUNCTION = CallableRef(path="app.tasks.work", module_name="app.tasks", func_name="work")
PLAIN = Definition(id="a", label="app.tasks.work", callable=FUNCTION)
RICH = Definition(
    id="a:b ü",
    label="daily report, with spaces",
    callable=FUNCTION,
    schedule="*/5 * * * * *",
    tz="Europe/Berlin",
    dst=DstRule.BOTH,
    anchor_ms=7,
    queue="mail",
    enabled=False,
    start_ms=5,
    end_ms=99,
    wait_for_schedule=False,
    iterations=3,
    overlap=Overlap.BUFFER_ONE,
    keep=Keep.LATEST,
    max_running=2,
    buffer_limit=12,
    pause_after=6,
    max_redeliveries=1,
    misfire=Misfire.ALL,
    misfire_grace_ms=1,
    catchup_window_ms=0,
    max_catchup=7,
    jitter_ms=9,
    min_gap_ms=11,
    retry=RetryPolicy(attempts=4, wait=Wait(kind=WaitKind.EXPONENTIAL, start_ms=100, max_ms=5000, base=1.5)),
    timeout_ms=8,
    pool=Pool.PROCESS,
    userdata={"n": 1, "nested": {"x": [1, 2.5, None, True, "ü", b"raw"]}},
)


def record(definition: Definition, *, generation: int = 5, version: int = 6) -> bytes:
    """The bytes as ``save`` composes them."""
    encoded = codec.encode(definition)
    label = definition.label if definition.label != definition.callable.path else ""
    head = ["1", generation, version, "=", "17-x", definition.queue, encoded.policy, definition.callable.path, label]
    return " ".join(map(str, head)).encode() + b"\n" + encoded.body


def _callable(**fields: Any) -> Definition:
    return replace(PLAIN, callable=replace(FUNCTION, **fields))


@pytest.mark.parametrize(
    "definition",
    [
        PLAIN,
        RICH,
        replace(PLAIN, schedule="@once", start_ms=5),
        replace(PLAIN, schedule="@once", misfire=Misfire.SKIP, catchup_window_ms=1),
        _callable(takes_message=False),
        _callable(path="app.tasks.Job.run", class_name="Job", func_name="run", func_type=FuncType.CLASSMETHOD),
        _callable(path="app.tasks.Job.run", class_name="Job", func_name="run", func_type=FuncType.STATICMETHOD),
        _callable(
            path="app.M.go",
            module_name="app",
            class_name="M",
            func_name="go",
            model_pk=7,
            func_type=FuncType.INSTANCEMETHOD,
        ),
        _callable(
            path="app.M.go",
            module_name="app",
            class_name="M",
            func_name="go",
            model_pk="key",
            func_type=FuncType.INSTANCEMETHOD,
        ),
        _callable(
            path="app.M.go",
            module_name="app",
            class_name="M",
            func_name="go",
            model_pk=UUID(int=9),
            func_type=FuncType.INSTANCEMETHOD,
        ),
        _callable(
            path="app.Out.In.go",
            module_name="app",
            class_name="Out.In",
            func_name="go",
            func_type=FuncType.STATICMETHOD,
        ),
    ],
)
def test_a_definition_survives_storage(definition: Definition) -> None:
    assert codec.decode(definition.id, record(definition)) == Stored(definition, 5, 6)


def test_every_field_of_the_rich_definition_differs_from_its_default() -> None:
    same = [name for name in Definition.__slots__ if getattr(RICH, name) == getattr(PLAIN, name)]
    assert same == ["callable"]


def test_a_task_of_defaults_has_a_small_record() -> None:
    assert codec.encode(PLAIN) == codec.Encoded("-", b"\x80")


def test_the_scripts_see_no_policy_that_drops_a_one_off_run() -> None:
    encoded = codec.encode(replace(PLAIN, schedule="@once", misfire=Misfire.SKIP))
    assert encoded.policy == "window=0"


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\n",
        b"\xff\xfe\n\x80",
        b"1 2 3\n\x80",
        record(PLAIN)[:-1],
        record(RICH)[:-3],
        record(PLAIN) + b"\x00",
        record(PLAIN).replace(b" - ", b" allow,never,1,2,3,4 "),
        record(PLAIN).replace(b" - ", b" allow "),
        record(PLAIN).replace(b"\n\x80", b"\n\xc1"),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb([1, 2])),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"colour": "red"})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"pool": "moon"})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"retry": {"attempts": 3}})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"once": []})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"once": ["skip"]})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"pk": ["uuid", "no"]})),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"pk": 5})),
        record(PLAIN).replace(b"\n\x80", b"\n" + b"\x91" * 3000),
        record(PLAIN).replace(b"\n\x80", b"\n" + msgpack.packb({"userdata": msgpack.Timestamp(1)})[:-2]),
    ],
)
def test_bytes_that_cannot_be_read_are_a_corrupt_record(junk: bytes) -> None:
    with pytest.raises(CorruptRecord, match="task a"):
        codec.decode("a", junk)


def test_a_newer_record_says_which_version_it_has() -> None:
    with pytest.raises(CorruptRecord, match="version 2, this release reads 1"):
        codec.decode("a", b"2" + record(PLAIN)[1:])


def test_a_pickle_is_never_read() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("executed",))

    with pytest.raises(CorruptRecord):
        codec.decode("a", record(PLAIN).partition(b"\n")[0] + b"\n" + pickle.dumps(Trap()))
