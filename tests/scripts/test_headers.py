"""The headers of the Lua files are contracts: names are checked, used, and spelled in one place."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sisy_redis import scripts

NAMES = scripts.names()


def _text(name: str) -> str:
    return (scripts.lua_folder() / f"{name}.lua").read_text()


def _body(name: str) -> str:
    lines = [line for line in _text(name).splitlines() if not line.startswith("--")]
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_name_is_read_by_its_script(name: str) -> None:
    found = scripts.script(name)
    for parameter in (*found.keys.names, *found.args.names, found.keys.rest, found.args.rest):
        assert parameter is None or re.search(rf"\b{parameter}\b", _body(name)), f"{name} never reads {parameter}"


@pytest.mark.parametrize("name", NAMES)
def test_no_script_reads_keys_or_arguments_by_number(name: str) -> None:
    assert not re.search(r"\b(KEYS|ARGV)\b", _body(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_script_says_what_it_does_and_what_it_replies(name: str) -> None:
    assert re.search(r"^-- Reply: ", _text(name), re.MULTILINE)
    first = next(line for line in _text(name).splitlines() if not line.startswith("#!"))
    assert first.startswith("-- ") and first.rstrip().endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_every_literal_reply_is_declared(name: str) -> None:
    declared = " ".join(re.findall(r"^-- +(?:Reply: )?(.+)$", _text(name), re.MULTILINE))
    for status in re.findall(r"return \{'([a-z-]+)'", _body(name)):
        assert status in declared


@pytest.mark.parametrize("name", NAMES)
def test_no_script_searches_all_keys_or_reads_time_itself(name: str) -> None:
    assert not re.search(r"'(KEYS|SCAN|TIME|FLUSHDB|FLUSHALL)'", _body(name))


def _libraries() -> Iterator[Path]:
    yield from (scripts.lua_folder() / "lib").glob("*.lua")


def test_only_the_clock_reads_the_servers_time() -> None:
    assert [path.name for path in _libraries() if "'TIME'" in path.read_text()] == ["clock.lua"]


def test_key_names_appear_in_one_module_only() -> None:
    package = Path(scripts.__file__).parent
    places = [package, scripts.lua_folder()]
    spelled = re.compile(r"""sisy:\{|["'](?:due|waiting|live):""")
    files = [path for place in places for kind in ("*.py", "*.lua") for path in place.rglob(kind)]
    assert sorted({path.name for path in files if spelled.search(path.read_text())}) == ["keys.py"]
