"""Key names, partitions and what a run id says."""

import re
from collections import Counter

import pytest
from redis.crc import key_slot

from sisy_redis.keys import Partition, Space, task_id_of


def test_all_keys_of_a_partition_share_one_hash_tag() -> None:
    p = Space("crew", 1).partition(0)
    names = [p.key("tasks"), p.due("mail"), p.waiting_queue("mail"), p.live("17")]
    assert names == [
        "sisy:{crew:0}:tasks",
        "sisy:{crew:0}:due:mail",
        "sisy:{crew:0}:waiting:mail",
        "sisy:{crew:0}:live:17",
    ]
    p = Space("crew", 4).partition(3)
    tags = {_tag(name) for name in (p.key("tasks"), p.due("mail"), p.waiting_queue("mail"), p.live("17"))}
    assert tags == {"crew:3-2"}


def _tag(name: str) -> str:
    return re.findall(r"\{(.+?)\}", name)[0]


@pytest.mark.parametrize("namespace", ["sisy", "crew", "a.long-name_with.64"])
@pytest.mark.parametrize("primaries", [2, 3, 4, 6])
def test_48_partitions_spread_evenly_over_equal_primaries(namespace: str, primaries: int) -> None:
    counts = Counter(
        key_slot(p.key("meta").encode()) * primaries // 16384 for p in Space(namespace, 48).all_partitions()
    )
    assert counts == dict.fromkeys(range(primaries), 48 // primaries)


@pytest.mark.parametrize("count", [2, 3, 8, 100, 1024])
def test_partition_i_lies_in_the_ith_of_equal_slot_ranges(count: int) -> None:
    slots = [key_slot(p.key("meta").encode()) for p in Space("crew", count).all_partitions()]
    assert [slot * count // 16384 for slot in slots] == list(range(count))


def test_an_unknown_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="taks"):
        Partition("crew", 0).key("taks")


def test_the_keys_of_a_namespace_lie_outside_its_partitions() -> None:
    space = Space("crew", 4)
    tags = {re.findall(r"\{(.+?)\}", p.key("meta"))[0] for p in space.all_partitions()}
    assert len(tags) == 4
    assert space.namespace_key == "sisy:{crew}:namespace"
    assert space.wake_key == "sisy:{crew}:wake"


def test_the_partition_of_an_id_never_changes() -> None:
    space = Space("crew", 48)
    found = {task_id: space.partition_of(task_id).index for task_id in ("a", "daily report", "ü", "x:y:z")}
    assert found == {"a": 3, "daily report": 26, "ü": 37, "x:y:z": 18}


def test_ids_spread_over_all_partitions() -> None:
    space = Space("crew", 16)
    counts = [0] * 16
    for i in range(1600):
        counts[space.partition_of(f"task-{i}").index] += 1
    assert min(counts) > 50 and max(counts) < 200


def test_an_injected_instant_reaches_every_partition() -> None:
    assert [p.now_arg for p in Space("crew", 2, 1234).all_partitions()] == ["1234", "1234"]
    assert Space("crew").partition(0).now_arg == ""


@pytest.mark.parametrize("task_id", ["a", "a:b:c", "a:17:18"])
@pytest.mark.parametrize("mark", ["1800000000000", "t1800000000000-abcdef"])
def test_a_run_id_names_its_task(task_id: str, mark: str) -> None:
    assert task_id_of(f"{task_id}:1800000000000001:{mark}") == task_id
