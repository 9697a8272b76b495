"""Saves tasks whose callables write a journal, and reads what became of them."""

from pathlib import Path

import fleet

from sisy_redis import callables, operations, queries
from sisy_redis.definitions import Definition
from sisy_redis.keys import Space
from sisy_redis.transport import Transport, partitions_of


class Producer:
    """Saves tasks of ``fleet``'s callables whose journal is one file."""

    def __init__(self, url: str, namespace: str, journal: Path, *, partitions: int = 1, wait_replicas: int = 0) -> None:
        self.transport, self.space = Transport(url, wait_replicas=wait_replicas), Space(namespace, partitions)
        self.journal = journal
        partitions_of(self.transport, self.space, partitions)

    def definition(self, task_id: str, name: str, **fields: object) -> Definition:
        userdata = {"journal": str(self.journal), **fields.pop("userdata", {})}  # type: ignore[dict-item]
        ref = callables.describe(getattr(fleet, name), userdata=userdata)
        return Definition(id=task_id, label=task_id, callable=ref, userdata=userdata, **fields)  # type: ignore[arg-type]

    def save(self, *definitions: Definition) -> None:
        self.transport.run(operations.save_all(self.space, definitions))

    def rows(self, task_id: str, event: str = "start") -> list[dict[str, object]]:
        return [r for r in fleet.rows(self.journal) if r["run"].rsplit(":", 2)[0] == task_id and r["event"] == event]

    def history(self, task_id: str) -> list[queries.HistoryEntry]:
        return self.transport.run(queries.history(self.space, task_id, 1000))

    def state(self, task_id: str) -> queries.TaskState | None:
        found = self.transport.run(queries.load_states(self.space, [task_id]))
        return found[0] if found else None
