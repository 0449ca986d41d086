"""What a test may have left in its database, read in two statements on a connection the test never had.

Rows are dated by ``xmin``, the transaction that wrote them: whatever was inserted or updated since the database was
handed out, in a table or a catalog, by whatever kind of statement, carries a later one, and whatever was deleted is
missing from the count. No trigger, statistic or log is relied on; each of those can be switched off by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

# Of a session that nothing a test set for the database or the role has any effect on.
OPTIONS = (
    "-c search_path=pg_catalog -c jit=off -c plan_cache_mode=force_generic_plan -c max_parallel_workers_per_gather=0 "
    "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off -c lock_timeout=200 "
    "-c statement_timeout=20s -c row_security=on -c session_replication_role=replica -c client_min_messages=error"
)
CATALOGS = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname IN ('pg_catalog', 'information_schema') AND relkind = 'r' AND NOT relisshared ORDER BY 1
"""
RELATIONS = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname), relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
    AND relkind IN ('r', 'm', 'S')
ORDER BY 1
"""
# What would act on the statements that empty a table, although they run as a replica's do.
ACTS_ON_REPLICAS = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgenabled IN ('A', 'R'))
    OR EXISTS (SELECT FROM pg_rewrite WHERE ev_enabled IN ('A', 'R'))
"""
SESSIONS = """
SELECT coalesce(array_agg(ARRAY[a.pid::text, coalesce(r.rolname, ''), coalesce(a.state, ''), a.backend_type]), '{}'),
    (SELECT coalesce(array_agg(gid), '{}') FROM pg_prepared_xacts WHERE database = current_database())
FROM pg_stat_get_activity(NULL) a LEFT JOIN pg_authid r ON r.oid = a.usesysid
WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.pid <> pg_backend_pid()
    AND a.backend_type NOT LIKE 'autovacuum%'
"""
LOCKS = """
SELECT count(*) FROM pg_lock_status() WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SETTINGS = """
SELECT (SELECT row(datdba, datistemplate, datallowconn, datconnlimit, dattablespace, datacl)::text
        FROM pg_database WHERE datname = current_database())
    || coalesce((SELECT string_agg(s::text, '' ORDER BY setrole) FROM pg_db_role_setting s
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())), '')
    || coalesce((SELECT string_agg(d::text, '' ORDER BY d::text) FROM pg_shdescription d
        WHERE objoid = (SELECT oid FROM pg_database WHERE datname = current_database())), '')
    || coalesce((SELECT string_agg(d::text, '' ORDER BY d::text) FROM pg_shseclabel d
        WHERE objoid = (SELECT oid FROM pg_database WHERE datname = current_database())), '')
    || coalesce((SELECT string_agg(slot_name, '' ORDER BY slot_name) FROM pg_replication_slots
        WHERE database = current_database()), '')
    || coalesce((SELECT string_agg(subname, '' ORDER BY subname) FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())), '')
"""
SINCE = "<since>"  # stands for the parameter while the statement is put together


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's connection to the database."""

    pid: int
    user: str
    state: str
    kind: str


@dataclass(frozen=True, slots=True)
class Table:
    """How many rows a table has, and how many of them were written since the database was handed out."""

    rows: int
    written: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as it is, but for its name and who is connected to it; the same for all clones of a template."""

    catalog: Table
    tables: tuple[Table, ...]
    sequences: tuple[str, ...]
    advisory_locks: int
    settings: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The relations of a database, as long as its catalog does not change."""

    catalogs: tuple[str, ...]
    tables: tuple[str, ...]
    views: frozenset[str]
    sequences: tuple[str, ...]

    def query(self) -> sql.SQL:
        """Return the statement that reads the facts; its parameter is the transaction to count from."""
        youngest = (f"SELECT count(*) AS rows, min(age(xmin)) AS age FROM ONLY {name}" for name in self.catalogs)
        catalog = f"SELECT sum(rows)::int8 AS rows, min(age) AS age FROM ({' UNION ALL '.join(youngest)}) each"
        parts = [
            f"(SELECT ARRAY[rows, (age <= age({SINCE}))::int] FROM ({catalog}) whole)",
            _array([f"(SELECT ARRAY[rows, written] FROM ({_dated(name)}) t)" for name in self.tables], "int8[]"),
            _array([f"(SELECT last_value || ' ' || is_called FROM {name})" for name in self.sequences], "text[]"),
            f"({LOCKS})",
            f"({SETTINGS})",
        ]
        text = f"SELECT {', '.join(parts)}".replace("%", "%%").replace(SINCE, "%(since)s::xid")
        return sql.SQL(text)  # the names in it come quoted from the server


def _dated(name: str) -> str:
    """Return the query that counts the rows of a relation, and those written since."""
    written = f"count(*) FILTER (WHERE age(xmin) <= (SELECT age({SINCE})))"
    return f"SELECT count(*) AS rows, {written} AS written FROM ONLY {name}"


def _array(parts: list[str], kind: str) -> str:
    return f"ARRAY[{', '.join(parts)}]::{kind}"


def connect(dsn: str) -> psycopg.Connection:
    """Open a connection that reads and resets, whatever was set for the database or the role."""
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=0, options=OPTIONS, application_name="session-fix")


def layout(connection: psycopg.Connection) -> Layout:
    """Return the relations of the database."""
    relations = connection.execute(RELATIONS).fetchall()
    return Layout(
        tuple(name for (name,) in connection.execute(CATALOGS)),
        tuple(name for name, kind in relations if kind in "rm"),
        frozenset(name for name, kind in relations if kind == "m"),
        tuple(name for name, kind in relations if kind == "S"),
    )


def acts_on_replicas(connection: psycopg.Connection) -> bool:
    """Say whether a trigger or a rule would act on the statements that reset a table."""
    return connection.execute(ACTS_ON_REPLICAS).fetchall() == [(True,)]


def next_transaction(connection: psycopg.Connection) -> int:
    """Return a transaction id that nothing which is finished has, and whatever starts now exceeds or equals."""
    (found,) = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text").fetchone() or ("",)
    return int(found)


def sessions(connection: psycopg.Connection) -> tuple[list[Session], list[str]]:
    """Return who else is connected to the database, and its prepared transactions."""
    found, prepared = connection.execute(SESSIONS).fetchone() or ([], [])
    return [Session(int(pid), user, state, kind) for pid, user, state, kind in found], prepared


def read(connection: psycopg.Connection, query: sql.SQL, since: int) -> Facts:
    """Return the database as it is; ``query`` is its layout's."""
    row: Any = connection.execute(query, {"since": str(since)}).fetchone()
    catalog, tables, sequences, locks, settings = row
    return Facts(Table(*catalog), tuple(Table(*table) for table in tables), tuple(sequences), locks, settings)
