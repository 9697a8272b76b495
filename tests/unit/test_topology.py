"""The map of a cluster, and how a batch finds its way over it. No I/O: the answers are played by hand."""

from collections.abc import Generator
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from waiting import poll

from sisy_redis import calls
from sisy_redis.keys import Space
from sisy_redis.transport.delivery import Acknowledgement, Parcel, Sent, deliver
from sisy_redis.transport.replies import Reply
from sisy_redis.transport.topology import Topology
from sisy_redis.transport.urls import Address

A, B, C = Address("a", 1), Address("b", 2), Address("c", 3)
SPACE = Space("crew", 2)
FIRST, SECOND = SPACE.all_partitions()
# Partition 0 lies in the lower half of the slots, 1 in the upper.
SLOTS: list[Any] = [[0, 8191, [b"a", 1, b"id"], [b"c", 3, b"id"]], [8192, 16383, [b"b", 2, b"id"]]]


def _read(partition: Any) -> calls.Call[int]:
    return calls.read(int, "HLEN", partition.key("tasks"))


def _known() -> Topology:
    topology = Topology([A])
    topology.learn(SLOTS, A)
    return topology


def _sent(steps: Generator[list[Parcel], list[Sent], list[Reply]], answers: list[Sent] | None = None) -> list[Parcel]:
    return next(steps) if answers is None else steps.send(answers)


def _ended(steps: Generator[list[Parcel], list[Sent], list[Reply]], answers: list[Sent]) -> list[Any]:
    with pytest.raises(StopIteration) as done:
        steps.send(answers)
    return [reply.raw for reply in done.value.value]


def test_the_map_is_asked_for_first_and_each_node_gets_its_own_calls() -> None:
    steps = deliver([_read(FIRST), _read(SECOND), _read(FIRST)], Topology([A]), Acknowledgement())
    assert _sent(steps) == [Parcel(A, (("CLUSTER", "SLOTS"),))]
    parcels = _sent(steps, [[SLOTS]])
    assert [(parcel.address, len(parcel.commands)) for parcel in parcels] == [(A, 2), (B, 1)]
    assert _ended(steps, [[1, 3], [2]]) == [1, 2, 3]


def test_a_seed_that_cannot_be_reached_is_passed_over() -> None:
    steps = deliver([_read(SECOND)], Topology([A, B]), Acknowledgement())
    assert _sent(steps)[0].address == A
    assert _sent(steps, [redis.ConnectionError("away")])[0].address == B
    assert [parcel.commands[0][0] for parcel in _sent(steps, [[SLOTS]])] == ["HLEN"]
    assert _ended(steps, [[2]]) == [2]


def test_a_moved_call_goes_to_the_node_that_was_named() -> None:
    steps = deliver([_read(FIRST), _read(SECOND)], _known(), Acknowledgement())
    _sent(steps)
    slot = key_slot(FIRST.key("tasks").encode())
    (again,) = _sent(steps, [[redis.exceptions.MovedError(f"{slot} c:3")], [2]])
    assert (again.address, len(again.commands)) == (C, 1)
    assert _ended(steps, [[1]]) == [1, 2]


def test_a_call_for_a_slot_on_the_move_asks_the_node_it_moves_to() -> None:
    steps = deliver([_read(FIRST)], _known(), Acknowledgement())
    _sent(steps)
    (again,) = _sent(steps, [[redis.exceptions.AskError("1 b:2")]])
    assert again.address == B and again.commands[0] == ("ASKING",)
    assert _ended(steps, [["OK", 7]]) == [7]


def test_what_moves_around_for_ever_ends_as_an_error() -> None:
    steps = deliver([_read(FIRST)], _known(), Acknowledgement())
    _sent(steps)
    error = redis.exceptions.AskError("1 b:2")
    with pytest.raises(StopIteration) as done:
        steps.send([[error]])
        while True:
            steps.send([["OK", error]])
    assert done.value.value[0].raw is error


def test_a_lost_reply_is_not_sent_again() -> None:
    lost = redis.ConnectionError("reset")
    steps = deliver([_read(FIRST), _read(SECOND)], _known(), Acknowledgement())
    _sent(steps)
    assert _ended(steps, [lost, [2]]) == [lost, 2]


def test_a_node_that_failed_is_left_alone_for_a_while() -> None:
    topology = _known()
    topology.failed(A, 60.0)
    steps = deliver([_read(FIRST), _read(SECOND)], topology, Acknowledgement())
    assert [parcel.address for parcel in _sent(steps)] == [B]
    first, second = _ended(steps, [[2]])
    assert isinstance(first, redis.ConnectionError) and second == 2
    assert topology.to_ask()[-1] == A


def test_after_a_failure_the_map_is_asked_for_again_of_another_node() -> None:
    topology = _known()
    steps = deliver([_read(FIRST)], topology, Acknowledgement())
    _sent(steps)
    _ended(steps, [redis.TimeoutError("no answer")])
    poll(lambda: topology.is_outdated)
    (question,) = _sent(deliver([_read(FIRST)], topology, Acknowledgement()))
    assert question.commands == (("CLUSTER", "SLOTS"),) and question.address in (B, C)


def test_the_clock_is_asked_of_the_node_that_decides() -> None:
    steps = deliver([calls.server_time(SPACE), _read(SECOND)], _known(), Acknowledgement())
    assert [parcel.address for parcel in _sent(steps)] == [B]


def test_replicas_are_waited_for_behind_saves_and_claims_only() -> None:
    claim = calls.claim(FIRST, "1", 1, 1, ["default"])
    steps = deliver([_read(FIRST), claim, _read(SECOND)], _known(), Acknowledgement(1, 500))
    first, second = _sent(steps)
    assert first.commands[-1] == ("WAIT", 1, 500) and len(first.commands) == 3
    assert len(second.commands) == 1
    with pytest.raises(StopIteration) as done:
        steps.send([[1, ["refused", 5], 0], [2]])
    assert [reply.acknowledged for reply in done.value.value] == [None, 0, None]


def test_a_slot_that_nobody_serves_is_an_error_and_the_map_is_asked_for_again() -> None:
    topology = Topology([A])
    topology.learn(SLOTS[1:], A)
    steps = deliver([_read(FIRST)], topology, Acknowledgement())
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert isinstance(done.value.value[0].raw, redis.ConnectionError)
