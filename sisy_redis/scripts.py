"""Finds the Lua files, checks their headers, and turns them into scripts whose keys and arguments have names.

A header line ``-- KEYS name …`` or ``-- ARGV name …`` declares the next key or argument; a name that ends with ``…`` takes
all the rest. The names become Lua locals, so a header cannot differ from what the body reads.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sisy_redis.errors import SisyError

_DECLARATION = re.compile(r"^-- (KEYS|ARGV) (\w+)(…?) \S", re.MULTILINE)
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)
_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "lua", _HERE.parent / "lua")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The declared names of one kind, in order; ``rest`` is the name that takes what follows."""

    names: tuple[str, ...]
    rest: str | None

    def order(self, values: Mapping[str, object], rest: Iterable[object]) -> list[object]:
        """The values in the declared order; a missing or unknown name is an error."""
        tail = list(rest)
        if set(values) != set(self.names) or (tail and self.rest is None):
            raise SisyError(f"expected {self.names} and {self.rest}, got {sorted(values)} and {len(tail)} more")
        return [values[name] for name in self.names] + tail

    def locals(self, table: str) -> str:
        lines = [f"local {name} = {table}[{i}]" for i, name in enumerate(self.names, 1)]
        if self.rest:
            lines.append(f"local {self.rest} = {{unpack({table}, {len(self.names) + 1})}}")
        return "; ".join(lines)


@dataclass(frozen=True, slots=True)
class Script:
    """A complete script as it is sent to Redis."""

    name: str
    text: str
    sha: str
    keys: Parameters
    args: Parameters


def lua_folder() -> Path:
    """Where the Lua files are: inside the installed package, or beside it in a checkout."""
    for place in _PLACES:
        if place.is_dir():
            return place
    raise SisyError(
        f"the Lua scripts are missing: none of {', '.join(map(str, _PLACES))} exists; install the package again"
    )


@cache
def script(name: str) -> Script:
    """The script of that name."""
    folder = lua_folder()
    source = (folder / f"{name}.lua").read_text(encoding="utf-8")
    keys, args = _parameters(source, "KEYS"), _parameters(source, "ARGV")
    shebang, body = "#!lua", source
    if source.startswith("#!"):
        shebang, _, body = source.partition("\n")
    header, includes = _split_includes(body)
    libraries = "\n".join(_strip((folder / "lib" / f"{lib}.lua").read_text(encoding="utf-8")) for lib in includes)
    locals_ = f"{keys.locals('KEYS')}\n{args.locals('ARGV')}"
    text = f"{shebang}\n{locals_}\n{libraries}\n{_strip(header)}"
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest(), keys, args)


def names() -> list[str]:
    """The names of all scripts."""
    return sorted(path.stem for path in lua_folder().glob("*.lua"))


def _parameters(source: str, kind: str) -> Parameters:
    found = [(name, bool(rest)) for what, name, rest in _DECLARATION.findall(source) if what == kind]
    fixed = tuple(name for name, rest in found if not rest)
    rest = [name for name, is_rest in found if is_rest]
    if len(rest) > 1 or (rest and not found[-1][1]):
        raise SisyError(f"only the last of {kind} may take the rest")
    return Parameters(fixed, rest[0] if rest else None)


def _split_includes(body: str) -> tuple[str, list[str]]:
    return _INCLUDE.sub("", body), _INCLUDE.findall(body)


def _strip(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
