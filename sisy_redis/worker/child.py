"""The child of ``pool="process"``: reads one JSON request, runs it, writes one JSON answer, ends."""

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sisy_redis import callables, context, settings
from sisy_redis.definitions import FuncType
from sisy_redis.worker.ending import Failure, failure_of, result_of
from sisy_redis.worker.pools import awaited

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.getppid()
    pause = threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            pause.wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class TaskData(Mapping[str, Any]):
    """What a process run knows of its task: ``id``, ``label`` and ``userdata``, as attributes and as items; read-only."""

    __slots__ = ("_data",)

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = MappingProxyType(dict(data))

    @property
    def id(self) -> str:
        return str(self._data["id"])

    @property
    def label(self) -> str:
        return str(self._data["label"])

    @property
    def userdata(self) -> dict[str, Any]:
        found: dict[str, Any] = self._data["userdata"]
        return found

    def __getitem__(self, name: str) -> Any:
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


def _message(request: dict[str, Any]) -> dict[str, Any]:
    details = dict(request["message"])
    for name in ("nominal", "previous"):
        details[name] = details[name] and datetime.fromisoformat(details[name])
    details["interval"] = details["previous"], details["nominal"]
    frozen = MappingProxyType(details)
    return {"task": TaskData(request["task"]), "message": frozen, "channel_message": frozen}


def _run(request: dict[str, Any]) -> tuple[Failure | None, str]:
    settings.configure(**request["settings"])
    context.current_run.set(context.RunContext(**request["run"]))
    callables.set_up_project()
    for module in request["imports"]:
        importlib.import_module(module)
    ref = callables.ref_from_funcinfo(request["funcinfo"])
    func = callables.resolve(ref)
    if ref.func_type is FuncType.INSTANCEMETHOD:
        func = callables.bind_instance(ref, func)
    arguments = {"message": _message(request)} if ref.takes_message else request["task"]["userdata"]
    try:
        return None, result_of(awaited(func(**arguments)))
    except BaseException as error:  # noqa: BLE001 - a user's callable: the edge
        return failure_of(error), ""


def main() -> None:
    """Runs the one request of standard input. What the callable prints goes to standard error."""
    _die_with_parent()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    try:
        failure, result = _run(request)
    except Exception as problem:  # noqa: BLE001 - an import runs a user's code: the edge
        failure, result = failure_of(problem), ""
    said = {"failure": failure and failure.to_wire(), "result": result}
    answer.write(b"\x1e" + json.dumps(said).encode())
    answer.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
