"""How Lua files become scripts; nothing here needs a server."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sisy_redis import scripts
from sisy_redis.errors import SisyError
from sisy_redis.scripts import Parameters


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of Lua files of the test's own."""
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(scripts, "lua_folder", lambda: tmp_path)
    scripts.script.cache_clear()
    yield tmp_path
    scripts.script.cache_clear()


def _write(folder: Path, *lines: str) -> scripts.Script:
    (folder / "one.lua").write_text("\n".join(lines))
    return scripts.script("one")


def test_values_are_put_in_the_declared_order() -> None:
    parameters = Parameters(("b", "a"), "rest")
    assert parameters.order({"a": 1, "b": 2}, [3, 4]) == [2, 1, 3, 4]


@pytest.mark.parametrize("values", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "x": 2}, {}])
def test_a_wrong_name_is_an_error(values: dict[str, object]) -> None:
    with pytest.raises(SisyError, match="expected"):
        Parameters(("a", "b"), None).order(values, [])


def test_more_values_than_declared_are_an_error() -> None:
    with pytest.raises(SisyError, match="1 more"):
        Parameters(("a",), None).order({"a": 1}, [2])


def test_declared_names_become_locals(folder: Path) -> None:
    found = _write(folder, "-- Does it.", "-- KEYS meta hash", "-- ARGV first ms", "-- ARGV more… names", "return meta")
    assert found.keys == Parameters(("meta",), None)
    assert found.args == Parameters(("first",), "more")
    assert found.text.splitlines() == [
        "#!lua",
        "local meta = KEYS[1]",
        "local first = ARGV[1]; local more = {unpack(ARGV, 2)}",
        "",
        "return meta",
    ]


def test_a_script_keeps_its_flags_and_has_the_digest_redis_computes(folder: Path) -> None:
    found = _write(folder, "#!lua flags=allow-oom", "-- Does it.", "return 1")
    assert found.text.startswith("#!lua flags=allow-oom\n")
    assert found.sha == hashlib.sha1(found.text.encode()).hexdigest()


def test_libraries_are_included_where_they_are_named(folder: Path) -> None:
    (folder / "lib" / "two.lua").write_text("-- A comment.\nlocal two = 2\n")
    found = _write(folder, "-- Does it.", "-- @include two", "return two")
    assert found.text.splitlines()[-2:] == ["local two = 2", "return two"]


def test_only_the_last_parameter_may_take_the_rest(folder: Path) -> None:
    with pytest.raises(SisyError, match="only the last"):
        _write(folder, "-- ARGV more… names", "-- ARGV last ms", "return 1")


def test_missing_lua_files_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scripts, "_PLACES", (tmp_path / "no", tmp_path / "neither"))
    with pytest.raises(SisyError, match="install the package again"):
        scripts.lua_folder()
