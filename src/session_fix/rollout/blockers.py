"""Who is in the way: sessions by pid, age and application_name. Their queries are not read, nobody is ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from session_fix.rollout.plan import Lock

MODES = (
    *("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"),
    *("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"),
)
# For each mode, in that order, the first one that it conflicts with; it does with all above, save SHARE with itself.
# Source: PostgreSQL manual, "Table-Level Locks".
FROM = (7, 6, 4, 3, 3, 2, 1, 0)
# Of another role's session, all but its pid is hidden from those who may not see it.
WHO = """
    coalesce(a.pid, 0), coalesce(nullif(a.application_name, ''), a.backend_type, ''),
    coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start, a.backend_start)), 0)::float8,
    coalesce(a.state, CASE WHEN a.pid IS NULL THEN 'prepared transaction' ELSE '' END)
"""
HOLDING = f"""
SELECT {WHO}, l.mode, c.oid::regclass::text
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(l.pid, 0) <> %s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND c.oid = ANY(SELECT to_regclass(u)::oid FROM unnest(%s::text[]) u)
"""
BLOCKING = f"SELECT {WHO} FROM unnest(pg_blocking_pids(%s)) b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid"
# All that CREATE INDEX CONCURRENTLY would have to wait for: who has a snapshot, or wrote something.
OLD = f"""
SELECT {WHO} FROM pg_stat_activity a
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    AND backend_type <> 'walsender' AND clock_timestamp() - xact_start > %s * interval '1 second'
UNION ALL
SELECT 0, gid, extract(epoch FROM clock_timestamp() - prepared)::float8, 'prepared transaction' FROM pg_prepared_xacts
WHERE database = current_database()
"""
MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A session of somebody else's; ``pid`` is 0 where there is none, ``age_s`` is of its transaction if it has one."""

    pid: int
    application: str
    age_s: float
    state: str = ""

    def __str__(self) -> str:
        """Return what an operator needs to find it."""
        named = f"pid {self.pid}" if self.pid else "no pid"
        told = (self.application or "no application_name", f"{self.age_s:.0f} s", self.state)
        return f"{named} ({', '.join(filter(None, told))})"


def conflict(mode: str, other: str) -> bool:
    """Say whether two modes of a table's lock, as SQL spells them, keep each other out."""
    one, two = sorted((MODES.index(mode), MODES.index(other)))
    return two >= FROM[one] and not (one == two == MODES.index("SHARE"))


def in_the_way(locks: Iterable[Lock], held: Iterable[tuple[Session, Lock]]) -> tuple[Session, ...]:
    """Return those who hold what conflicts with one of ``locks``, the oldest first; all who hold any if nobody does.

    The latter are where the wait was for a row, which no table's lock shows.
    """
    held, wanted = list(held), list(locks)
    found = [
        session
        for session, has in held
        if any(_bare(has.relation) == _bare(one.relation) and conflict(has.mode, one.mode) for one in wanted)
    ]
    by_pid = {session.pid: session for session in found or [session for session, _ in held]}
    return tuple(sorted(by_pid.values(), key=lambda session: -session.age_s))


def _bare(relation: str) -> str:
    return relation.removeprefix("public.")


def holding(connection: psycopg.Connection, relations: Sequence[str], *, but: int = 0) -> list[tuple[Session, Lock]]:
    """Return who holds which lock on these relations; neither this connection nor the process ``but``."""
    return [
        (Session(*row[:4]), Lock(sql_mode(row[4]), row[5]))
        for row in connection.execute(HOLDING, (but, list(relations)))
    ]


def sql_mode(name: str) -> str:
    """Return a lock's mode as SQL spells it: ``ACCESS SHARE`` for ``AccessShareLock``."""
    return " ".join(re.findall("[A-Z][a-z]+", name.removesuffix("Lock"))).upper()


def blocking(connection: psycopg.Connection, pid: int) -> tuple[Session, ...]:
    """Return those for whom the process is waiting at this moment."""
    return tuple(Session(*row) for row in connection.execute(BLOCKING, (pid,)))


def old_transactions(connection: psycopg.Connection, *, older_than_s: float = MINUTE_S) -> tuple[Session, ...]:
    """Return the transactions of that age, which an index that is built CONCURRENTLY would wait for."""
    found = [Session(*row) for row in connection.execute(OLD, (older_than_s,))]
    return tuple(sorted(found, key=lambda session: -session.age_s))
