"""The demo's result, for people and for programs."""

from dataclasses import asdict
from typing import Any

from sisy_redis.demo.verdict import Verdict
from sisy_redis.output import aligned


def as_json(verdict: Verdict, seconds: float, workers: list[int]) -> dict[str, Any]:
    """Expected and actual run ids, by task, the killed process and the run that was taken over."""
    return {
        "ok": not verdict.problems,
        "seconds": round(seconds, 1),
        "expected": {task.id: sorted(task.expected) for task in verdict.tasks},
        "actual": {task.id: sorted(task.actual) for task in verdict.tasks},
        "skipped": {task.id: sorted(task.skipped) for task in verdict.tasks},
        "workers": workers,
        "killed_pid": verdict.killed_pid,
        "taken_over": asdict(verdict.taken_over) if verdict.taken_over else None,
        "problems": list(verdict.problems),
    }


def as_text(verdict: Verdict, seconds: float) -> str:
    """The summary."""
    table = [("task", "runs expected", "runs ended", "skipped (overlap)", "")]
    for task in verdict.tasks:
        numbers = (str(len(task.expected)), str(len(task.actual)), str(len(task.skipped)))
        table.append((task.id, *numbers, "WRONG" if task.problems else "ok"))
    lines = ["", aligned(table), ""]
    taken = verdict.taken_over
    if taken:
        lines.append(f"run {taken.run_id} was taken over:")
        lines.append(
            f"  attempt {taken.attempts[0]}, token {taken.tokens[0]}: process {taken.from_pid}, killed in the middle"
        )
        lines.append(f"  attempt {taken.attempts[1]}, token {taken.tokens[1]}: process {taken.to_pid}, ended it")
    lines += [f"PROBLEM: {problem}" for problem in verdict.problems]
    total = sum(len(task.expected) for task in verdict.tasks)
    good = f"ok: every one of {total} expected runs ended exactly once, in {seconds:.0f} s"
    lines.append(f"FAILED with {len(verdict.problems)} problems" if verdict.problems else good)
    return "\n".join(lines)
