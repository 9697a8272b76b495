"""``python -m benchmarks [--runs N] [--rounds N]``: prints a table, medians of all rounds."""

import argparse
import json
import statistics
import sys
from collections import defaultdict

from benchmarks import noop, place, throughput
from benchmarks.throughput import Measured


def main() -> int:
    """Measures and prints; nothing here decides a test."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="no-op runs a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the table shows their medians")
    parser.add_argument("--json", action="store_true", help="every figure of every round instead of the table")
    options = parser.parse_args()
    found: dict[str, list[Measured]] = defaultdict(list)
    for append_only in (False, True):
        for _ in range(options.rounds):
            for measured in _round(options.runs, append_only):
                found[f"{measured.name}, append-only file {'on' if append_only else 'off'}"].append(measured)
    if options.json:
        rows = {name: [[m.per_second, m.redis_cpu_us, m.worker_cpu_us] for m in each] for name, each in found.items()}
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'due no-op runs, one Redis, one process':56} {'runs/s':>8} {'Redis µs':>9} {'worker µs':>10}")
    for name, each in found.items():
        worker = [m.worker_cpu_us for m in each if m.worker_cpu_us is not None]
        rates = statistics.median(m.per_second for m in each), statistics.median(m.redis_cpu_us for m in each)
        print(f"{name:56} {rates[0]:8.0f} {rates[1]:9.1f} {statistics.median(worker) if worker else '-':>10.4}")
    return 0


def _round(runs: int, append_only: bool) -> list[Measured]:
    with place.server(append_only=append_only) as url:
        alone = throughput.scripts_alone(url, runs)
    workers = []
    for func in (noop.coroutine, noop.plain):
        with place.server(append_only=append_only) as url:
            workers.append(throughput.one_worker(url, runs, func))
    return [alone, *workers]


if __name__ == "__main__":
    sys.exit(main())
