"""A real server whose wall clock can be stepped while it runs, by a small library that is preloaded into it.

That takes Linux and a C compiler.
"""

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shift_clock.c")


class ServerClock:
    """How far a server's clock is from the machine's. ``env`` is what the server has to be started with."""

    def __init__(self, library: Path, folder: Path) -> None:
        path = folder / "clock-shift"
        path.write_bytes(struct.pack("=q", 0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)
        self.shift_ms = 0
        self.env = {"LD_PRELOAD": str(library), "SHIFT_CLOCK_FILE": str(path)}

    def step(self, ms: int) -> None:
        """Moves the clock by so much, at once and for the running process."""
        self.shift_ms += ms
        self._shared[:] = struct.pack("=q", self.shift_ms * 1000)


def server_clock(folder: Path) -> ServerClock | None:
    """A clock to start a server with; None where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "shift_clock.so"
    built = subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], capture_output=True)
    return ServerClock(library, folder) if built.returncode == 0 else None
