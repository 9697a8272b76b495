"""``python -m tests.mutants [NAME…]``: takes each guard away in a copy of the checkout and runs the tests that must fail then.

Ends with 1 when a mutant survives, or a guard is no longer in its file.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("sisy_redis", "lua", "tests", "pyproject.toml")
_AT_ONCE = 2
_LONGEST_S = 300


def main(names: Sequence[str]) -> int:
    """Runs the chosen mutants, or all of them, and prints the kill rate."""
    chosen = [guard for guard in GUARDS if not names or any(name in guard.name for name in names)]
    begun = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        verdicts = list(pool.map(_verdict, chosen))
    killed = verdicts.count("killed")
    print(
        f"{killed} of {len(chosen)} mutants killed ({100 * killed // max(1, len(chosen))} %), "
        f"in {time.monotonic() - begun:.0f} s"
    )
    return 0 if killed == len(chosen) else 1


def _verdict(guard: Guard) -> str:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        verdict = _tried(guard, Path(folder))
    print(f"{verdict:9} {guard.name}", flush=True)
    return verdict


def _tried(guard: Guard, folder: Path) -> str:
    for part in _PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)  # type: ignore[operator]
    path = folder / guard.file
    text = path.read_text()
    if text.count(guard.before) != 1:
        return "not found"
    path.write_text(text.replace(guard.before, guard.after))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", *guard.tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        return "killed"
    # 1: tests failed. Anything else means that they did not run.
    return {0: "SURVIVED", 1: "killed"}.get(done.returncode, f"exit {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
