"""What the data API's roles can really do with a row of each table: tried as each of them, and rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from session_fix.errors import DatabaseUnreadableError, RolloutRefusedError
from session_fix.rollout import target
from session_fix.rollout.found import Unseen
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS

LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = 500, 10_000
REFUSED = "42501"
# In use, unused, and one that is to be written; the row of the interaction.
VALUES = {
    "used": "5e55f1c5-0000-4000-8000-000000000011",
    "unused": "5e55f1c5-0000-4000-8000-000000000012",
    "new": "5e55f1c5-0000-4000-8000-000000000013",
    "asked": "5e55f1c5-0000-4000-8000-000000000014",
}
SESSION = f"INSERT INTO public.{SESSIONS} (id, created_at, updated_at) VALUES (%({{}})s, now(), now())"
INTERACTION = f"""
INSERT INTO public.{INTERACTIONS} (id, session_id, prompt, response, created_at)
VALUES (%({{}})s, %(used)s, '', '', now())
"""
OWN = (SESSION.format("used"), SESSION.format("unused"), INTERACTION.format("asked"))
TRIES = {
    (SESSIONS, "SELECT"): f"SELECT FROM public.{SESSIONS} WHERE id = %(used)s",
    (SESSIONS, "INSERT"): SESSION.format("new"),
    (SESSIONS, "UPDATE"): f"UPDATE public.{SESSIONS} SET user_id = NULL WHERE id = %(used)s",
    (SESSIONS, "DELETE"): f"DELETE FROM public.{SESSIONS} WHERE id = %(unused)s",
    (INTERACTIONS, "SELECT"): f"SELECT FROM public.{INTERACTIONS} WHERE id = %(asked)s",
    (INTERACTIONS, "INSERT"): INTERACTION.format("new"),
    (INTERACTIONS, "UPDATE"): f"UPDATE public.{INTERACTIONS} SET prompt = '' WHERE id = %(asked)s",
    (INTERACTIONS, "DELETE"): f"DELETE FROM public.{INTERACTIONS} WHERE id = %(asked)s",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one try: how many rows it reached, or the SQLSTATE that refused it."""

    role: str
    table: str
    command: str
    rows: int = 0
    sqlstate: str = ""

    @property
    def worked(self) -> bool:
        """Whether the role got at the row, or past the rights at least."""
        return self.rows > 0 or self.sqlstate not in ("", REFUSED)


class _RolledBackError(Exception):
    """Ends a transaction of ours; nobody outside sees it."""


def tried(params: Mapping[str, str], roles: Iterable[str]) -> tuple[tuple[Probe, ...], tuple[Unseen, ...]]:
    """Return what each role can do, and what could not be tried. Nothing of it stays; raises nothing of its own."""
    found: list[Probe] = []
    unseen: list[Unseen] = []
    what = "what the data API's roles can really do"
    try:
        with (
            target.writing(
                params, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS
            ) as connection,
            _rolled_back(connection),
        ):
            for statement in OWN:
                connection.execute(statement, VALUES)
            for role in sorted(roles):
                probes = _as_role(connection, role)
                found += probes
                unseen += [] if probes else [Unseen(f"what {role} can really do", "we may not act as that role")]
    except psycopg.Error as error:
        why = f"a row to try it on cannot be written: {error.sqlstate or 'the connection ended'}"
        unseen.append(Unseen(what, why))
    except (RolloutRefusedError, DatabaseUnreadableError) as error:
        unseen.append(Unseen(what, f"there is no session to write in: {type(error).__name__}"))
    return tuple(found), tuple(unseen)


@contextmanager
def _rolled_back(connection: psycopg.Connection) -> Iterator[None]:
    with suppress(_RolledBackError), connection.transaction():
        yield
        raise _RolledBackError


def _as_role(connection: psycopg.Connection, role: str) -> list[Probe]:
    found: list[Probe] = []
    with _rolled_back(connection):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        except psycopg.errors.InsufficientPrivilege:
            return []
        connection.execute("SET LOCAL row_security = on")
        for (table, command), statement in TRIES.items():
            with _rolled_back(connection):
                try:
                    with connection.transaction():
                        rows = connection.execute(statement, VALUES).rowcount
                    found.append(Probe(role, table, command, rows))
                except psycopg.Error as error:
                    if connection.closed or not error.sqlstate:
                        raise
                    found.append(Probe(role, table, command, sqlstate=error.sqlstate))
    return found
