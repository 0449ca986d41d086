"""What concurrent clients do: each workload is a few clients and what each of them does, one action after the other."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from session_fix.errors import UsageError

CREATE, QUERY, DELETE, CLEANUP, READ, MIGRATE = "create", "query", "delete", "cleanup", "read", "migrate"
READS = 5


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its actions, and the number of its process, which may run the other service, or be killed."""

    actions: tuple[str, ...]
    process: int = 0
    other: bool = False
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """Concurrent clients of one session.

    ``layers`` are those where it makes sense, the usual one first. ``exists``: the session is there before, unused for
    years. ``heals``: once all have finished, the session must be good for another query. ``lacks_key``: the foreign key
    is missing before, and there is an orphan. ``sampled``: there are too many orders to run them all.
    """

    name: str
    clients: tuple[Client, ...]
    layers: tuple[str, ...] = ("api", "logger", "database")
    exists: bool = False
    heals: bool = False
    lacks_key: bool = False
    sampled: bool = False

    @property
    def processes(self) -> int:
        """How many processes of the service it takes."""
        return 1 + max(client.process for client in self.clients)

    @property
    def crashes(self) -> bool:
        """Whether a client's process is killed at each of its calls, instead of trying every order."""
        return any(client.killed for client in self.clients)

    @property
    def actions(self) -> frozenset[str]:
        """What the clients do, all of them."""
        return frozenset(action for client in self.clients for action in client.actions)


_CREATE, _QUERY = Client((CREATE,)), Client((QUERY,))
ALL = (
    Workload("create-create", (_CREATE, _CREATE), layers=("database",)),
    Workload("create-create-processes", (_CREATE, Client((CREATE,), process=1)), layers=("database",)),
    Workload("create-query", (_CREATE, _QUERY)),
    Workload("query-query", (_QUERY, _QUERY)),
    Workload("query-query-processes", (_QUERY, Client((QUERY,), process=1))),
    Workload("create-query-query", (_CREATE, _QUERY, _QUERY)),
    Workload("query-query-delete", (_QUERY, _QUERY, Client((DELETE,))), heals=True),
    Workload("query-cleanup", (_QUERY, Client((CLEANUP,))), exists=True, heals=True),
    Workload("query-reader", (_QUERY, Client((READ,) * READS))),
    Workload("query-query-versions", (_QUERY, Client((QUERY,), process=1, other=True))),
    Workload("query-query-killed", (_QUERY, Client((QUERY,), process=1, killed=True)), layers=("api",), heals=True),
    Workload("query-query-query", (_QUERY,) * 3, sampled=True),
    Workload("query-query-migration", (_QUERY, _QUERY, Client((MIGRATE,))), lacks_key=True, sampled=True),
    Workload("query-query-query-query", (_QUERY,) * 4, sampled=True),
)
BY_NAME = {workload.name: workload for workload in ALL}


def named(name: str) -> Workload:
    """Return a workload by its name. Raises ``UsageError`` with the nearest name."""
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"There is no workload {name!r}; there are {', '.join(BY_NAME)}.{hint}")
    return BY_NAME[name]
