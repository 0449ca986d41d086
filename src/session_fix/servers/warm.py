"""An embedded server started from a kept cluster: initialised, migrated and its states filled once a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from psycopg.conninfo import make_conninfo

from session_fix import connecting, folders, schema
from session_fix.databases import KEPT_RUN, Databases
from session_fix.errors import DamagedClusterError
from session_fix.processes import GuardedProcess
from session_fix.progress import Progress
from session_fix.roles import API_ROLES
from session_fix.servers import Server, clusters, embedded
from session_fix.states import State


@contextmanager
def start(
    *,
    version: str,
    states: Sequence[State] = (),
    durable: bool = False,
    progress: Progress,
    share: Path | None = None,
) -> Iterator[tuple[Server, GuardedProcess]]:
    """Yield a new embedded server in which the migrated template and those of ``states`` are there already.

    Raises what ``embedded.start`` and the migrations raise. A kept cluster that is damaged is made again.
    """
    with ExitStack() as stack:
        for last_try in (False, True):
            with _cluster(version, sorted(states, key=lambda state: state.label), progress) as cluster:
                try:
                    starting = embedded.start(version=version, cluster=cluster, durable=durable, share=share)
                    running = stack.enter_context(starting)
                    break
                except DamagedClusterError:
                    clusters.remove(Path(cluster.name))
                    if last_try:
                        raise
        yield running


def _cluster(version: str, states: Sequence[State], progress: Progress) -> BinaryIO:
    title = "-".join([f"postgresql-{version}", *(state.name for state in states)])

    def build(target: IO[bytes]) -> None:
        with progress.step(f"Initialising PostgreSQL {version}, once"), embedded.start(version=version) as started:
            server, process = started
            with Databases(server, run=KEPT_RUN, migrate=schema.migrate) as databases:
                for state in (None, *states):
                    template = databases.template(state, progress=progress)
                    connecting.connect(make_conninfo(**databases.params(template))).close()  # which makes its relcache
            embedded.archive(process, version, target)

    return clusters.opened(title, _key(version, states), build)


def _key(version: str, states: Sequence[State]) -> dict[str, object]:
    """Return everything that decides what is in a cluster."""
    return {
        "build": embedded.build(version),
        "initdb": embedded.INITDB_OPTIONS,
        "settings": embedded.settings(version),
        "roles": API_ROLES,
        "migrations": _digest(folders.bundled("migrations")),
        "alembic": [embedded.installed("alembic"), embedded.installed("sqlalchemy")],
        "states": [state.label for state in states],
    }


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".sql"}
    }
