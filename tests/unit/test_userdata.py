"""What userdata may hold: exactly what JSON and msgpack give back unchanged."""

import collections
import datetime
import enum
import json
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisy_redis import userdata
from sisy_redis.errors import SisyError, UserdataError

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters()), values))
def test_what_is_accepted_survives_json_and_msgpack_unchanged(data):
    try:
        checked = userdata.check(data)
    except UserdataError as error:
        str(error).encode()
        return
    assert json.loads(json.dumps(checked)) == checked
    assert msgpack.unpackb(msgpack.packb(checked)) == checked


@pytest.mark.parametrize("nothing", [None, dict, {}])
def test_no_userdata_is_a_new_empty_dict(nothing):
    first = userdata.check(nothing)
    assert first == {}
    assert first is not userdata.check(nothing)


def test_tuples_become_lists_and_the_copy_is_independent():
    data = {"a": (1, [2, (3,)]), "b": {"c": collections.OrderedDict(d=1.5)}}
    checked = userdata.check(data)
    assert checked == {"a": [1, [2, [3]]], "b": {"c": {"d": 1.5}}}
    data["b"]["c"]["d"] = 2
    assert checked["b"]["c"]["d"] == 1.5
    assert type(checked["b"]["c"]) is dict


class Color(enum.IntEnum):
    RED = 1


class Name(enum.StrEnum):
    ANNA = "anna"


def nested(levels):
    data = inner = {}
    for _ in range(levels - 1):
        inner["k"] = inner = {}
    return data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "not list"),
        ("text", "not str"),
        (3, "not int"),
        (list, "not type"),
        ({"a": b"x"}, ": a is of the type bytes"),
        ({"a": {"b": [0, {1}]}}, ": a.b[1] is of the type set"),
        ({"when": datetime.date(2026, 1, 1)}, ": when is of the type date"),
        ({"a": object()}, ": a is of the type object"),
        ({"a": Color.RED}, ": a is of the type Color"),
        ({"a": Name.ANNA}, ": a is of the type Name"),
        ({"größe": math.nan}, ": größe is nan"),
        ({"a": math.inf}, ": a is inf"),
        ({"a": 2**63}, ": a is an integer beyond 64 bits"),
        ({"a": -(2**63) - 1}, ": a is an integer beyond 64 bits"),
        ({1: "a"}, "it has the key 1, and keys must be strings"),
        ({"a": {None: 1}}, ": a has the key None"),
        ({"a": "\ud800"}, ": a is no valid text"),
        ({"\ud800": 1}, "is no valid text"),
        (nested(33), "is nested deeper than 32 levels"),
    ],
)
def test_what_would_not_come_back_is_refused_by_key(data, text):
    with pytest.raises(UserdataError) as caught:
        userdata.check(data)
    message = str(caught.value)
    assert message.startswith("Userdata must be a dictionary of JSON-serializable data")
    assert text in message
    message.encode()
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, SisyError)


def test_a_dict_that_holds_itself_is_refused():
    data = {}
    data["self"] = data
    with pytest.raises(UserdataError, match="nested deeper"):
        userdata.check(data)


@pytest.mark.parametrize("edge", [2**63 - 1, -(2**63), 0.1, 5e-324, True, None, "ä😀", [], {}, nested(31)])
def test_values_at_the_edge_are_kept(edge):
    assert userdata.check({"a": edge}) == {"a": edge}


def test_the_limit_counts_bytes_and_names_the_largest_key():
    room = userdata.LARGEST_BYTES - len('{"big": ""}')
    assert userdata.check({"big": "x" * room})
    with pytest.raises(UserdataError, match="65537, most of them in 'big'"):
        userdata.check({"big": "x" * (room + 1)})
    with pytest.raises(UserdataError, match="'big'"):
        userdata.check({"small": 1, "big": "ä" * (room // 2 + 1)})
