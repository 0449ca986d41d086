"""Lists what there is to repair and works through it in batches, until nothing is left or nothing more can be done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import psycopg

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.progress import SILENT, Progress
from session_fix.rollout import catalog, target
from session_fix.rollout.happening import Listener, nobody
from session_fix.rollout.repair import batches, fitness, statements, support
from session_fix.rollout.repair.batches import APPLICATION, Batch, translated
from session_fix.rollout.repair.outcome import Found, Repaired
from session_fix.rollout.repair.pace import needs_index
from session_fix.rollout.retrying import PATIENCE_S
from session_fix.rollout.wanted import TABLES

BATCH_ROWS, BATCH_MS, LOCK_TIMEOUT_MS = 2000, 200.0, 200
STATEMENT_TIMEOUT_MS = 3_600_000  # of a list, which reads both tables; a batch is bounded by its rows
LOOK_TIMEOUT_S = 3600.0
ROUNDS = 3  # as long as the backend is not fixed, there is more to repair after each
PAUSE_S = 0.5  # before the next round, for those who were in the way

MERGE = "SELECT * FROM pg_temp.session_fix_merge(%s)"
CREATE = "SELECT * FROM pg_temp.session_fix_create(%s)"
REMOVE = "SELECT * FROM pg_temp.session_fix_remove(%s, %s)"

Tell = Callable[[Repaired], None]


def look(params: Mapping[str, str], *, phantoms: str = "certain") -> Found:
    """Return how much there is to repair, read in one transaction that cannot write.

    Raises ``RolloutRefusedError`` where it could not be repaired as the tables are, and ``DatabaseUnreadableError``.
    """
    with target.reading(params, timeout_s=LOOK_TIMEOUT_S) as (connection, _):
        _check(connection, merging=True, removing=False)
        connection.execute(statements.BY_HASH)
        row = connection.execute(statements.look(phantoms).encode()).fetchone() or ()
        return Found(*row)


def repair(
    params: Mapping[str, str],
    *,
    phantoms: str = "certain",
    orphans: str = "create",
    batch_rows: int = BATCH_ROWS,
    batch_ms: float = BATCH_MS,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    progress: Progress = SILENT,
    tell: Tell = lambda _: None,
    run: str = statements.RUN,
    ignore_replicas: bool = False,
    patience_s: float = PATIENCE_S,
    check: Callable[[], None] = lambda: None,
    on: Listener = nobody,
) -> Repaired:
    """Repair what the bug left behind, in batches of at most so many rows and about so many milliseconds.

    ``phantoms`` is certain, likely (those as well) or none; ``orphans`` create, quarantine, delete or none. The journal
    keeps what is done under ``run``; ``tell`` is given the counts after each batch. No batch begins before replicas
    have the last one, unless ``ignore_replicas``; ``patience_s`` is for one of these waits, and ``on`` is told of it.
    Nor does one begin where ``check`` raises, which it does when the lock is lost that keeps others away. Once begun
    again, it goes on where it ended, however it ended. Raises ``RolloutRefusedError``, ``RolloutBusyError``,
    ``StepFailedError``, ``DatabaseUnreadableError``; what was done before is kept.
    """
    if phantoms not in statements.PHANTOMS or orphans not in statements.ORPHANS:
        raise UsageError(f"There are no phantoms {phantoms!r}, or no way {orphans!r} with orphans.")
    opened = target.writing(
        params, lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=STATEMENT_TIMEOUT_MS, application=APPLICATION
    )
    with closing(opened) as connection, translated(params):
        _check(connection, merging=phantoms != "none", removing=orphans in ("quarantine", "delete"))
        statements.prepare(connection)
        statements.learn(connection, *(f"public.{table}" for table in TABLES))
        wait = batches.waiting(connection, ignore_replicas=ignore_replicas, patience_s=patience_s, on=on, check=check)
        run = statements.checked_run(run)
        work = _Work(connection, params, phantoms, orphans, batch_rows, batch_ms, wait, progress, tell, run)
        return work.done()


def _check(connection: psycopg.Connection, *, merging: bool, removing: bool) -> None:
    if faults := list(fitness.faults(catalog.tables(connection), merging=merging, removing=removing)):
        raise RolloutRefusedError(
            f"This database cannot be repaired as it is: {'; '.join(faults)}. `session-fix audit` says more. "
            "Nothing was changed."
        )


class _Work:
    """A repair under way: its session, its choices, and the counts so far."""

    def __init__(
        self,
        connection: psycopg.Connection,
        params: Mapping[str, str],
        phantoms: str,
        orphans: str,
        batch_rows: int,
        batch_ms: float,
        wait: Callable[[], None],
        progress: Progress,
        tell: Tell,
        run: str,
    ) -> None:
        self._connection, self._params = connection, params
        self._phantoms, self._orphans = phantoms, orphans
        self._rows, self._ms, self._wait = batch_rows, batch_ms, wait
        self._progress, self._tell, self._run = progress, tell, run
        self._began = time.monotonic()
        self._counts = Repaired(run=run)

    def done(self) -> Repaired:
        """Go through it round by round; return what it came to."""
        nothing_more = False
        for number in range(ROUNDS + 1):
            before, only_count = self._counts.changes, nothing_more or number == ROUNDS
            waiting = self._round(only_count=only_count)
            if only_count or not self._counts.left:
                break
            nothing_more = self._counts.changes == before and not waiting
            if waiting:
                time.sleep(PAUSE_S)
        support.drop(self._params, self._connection, self._progress)
        return dataclasses.replace(self._counts, took_s=time.monotonic() - self._began)

    def _round(self, *, only_count: bool) -> bool:
        """Work through one list of either kind; say whether others were in the way of a row."""
        busy = 0
        if self._phantoms != "none":
            listed = self._list("Looking for phantom sessions", statements.phantoms(self._phantoms))
            self._counts = dataclasses.replace(self._counts, left_phantoms=listed)
            if listed and not only_count:
                self._index(phantoms=listed)
                busy += self._batches("Merging phantom sessions", MERGE, (), listed, self._merged)
        if self._orphans != "none":
            creating = self._orphans == "create"
            listing = statements.missing_sessions() if creating else statements.orphans()
            listed = self._list("Looking for interactions without a session", listing)
            self._counts = dataclasses.replace(self._counts, left_orphans=listed)
            if listed and not only_count:
                self._index(missing=listed)
                if creating:
                    busy += self._batches("Storing sessions that are missing", CREATE, (), listed, self._created)
                else:
                    call = (self._orphans == "quarantine",)
                    busy += self._batches("Taking interactions away", REMOVE, call, listed, self._removed)
        return busy > 0

    def _list(self, doing: str, listing: str) -> int:
        with self._progress.step(doing):
            return statements.list_work(self._connection, listing)

    def _index(self, *, phantoms: int = 0, missing: int = 0) -> None:
        pages, has_key = support.size(self._connection)
        worth = needs_index(phantoms=phantoms, missing=missing, pages=pages, has_key=has_key)
        if worth and support.is_missing(self._connection):
            support.build(self._params, self._progress)

    def _batches(
        self, doing: str, call: str, values: tuple[Any, ...], listed: int, counted: Callable[[Mapping[str, Any]], None]
    ) -> int:
        busy = 0
        with self._progress.step(doing) as count:
            for batch in batches.run(
                self._connection,
                call,
                (self._run, *values),
                of=listed,
                rows=self._rows,
                batch_ms=self._ms,
                wait=self._wait,
            ):
                counted(batch.counts)
                self._note(batch)
                busy += batch.counts["busy"]
                count(batch.done, listed)
        return busy

    def _note(self, batch: Batch) -> None:
        longest_ms = max(self._counts.longest_ms, batch.took_ms)
        self._counts = dataclasses.replace(self._counts, longest_ms=longest_ms, took_s=time.monotonic() - self._began)
        self._add(batches=1, retries=batch.retries)
        self._tell(self._counts)

    def _merged(self, counts: Mapping[str, Any]) -> None:
        self._add(merged=counts["merged"], sessions_stored=counts["stored"], sessions_changed=counts["changed"])
        self._add(left_phantoms=-counts["merged"])

    def _created(self, counts: Mapping[str, Any]) -> None:
        self._add(sessions_created=counts["stored"], left_orphans=-counts["stored"])

    def _removed(self, counts: Mapping[str, Any]) -> None:
        name = "quarantined" if self._orphans == "quarantine" else "deleted"
        self._add(**{name: counts["removed"]}, left_orphans=-counts["removed"])

    def _add(self, **numbers: float) -> None:
        added = {name: getattr(self._counts, name) + number for name, number in numbers.items()}
        self._counts = dataclasses.replace(self._counts, **added)
