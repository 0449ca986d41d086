"""What a test may have left in its database, read on a connection the test never had.

Rows are dated by ``xmin``, the transaction that wrote them: whatever was inserted or updated since the database was
handed out, in a table or a catalog, by whatever kind of statement, carries a later one, and whatever was deleted is
missing from the count. No trigger and no log is relied on; those can be switched off by a test.

Dating the 20,000 rows of the database's catalogs takes longer than all the rest. Whether they may have changed at all
is told by PostgreSQL's counters of written rows, one a relation: as long as they stand still, the last dating holds.
Whoever can write them is connected to this database, and has reported what it counted by the time it has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg.pq.abc import PGresult

from session_fix import connecting
from session_fix.isolation.tasks import Prepared, Task, together

# Of a session that nothing a test set for the database or the role has any effect on.
OPTIONS = (
    "-c search_path=pg_catalog -c jit=off -c plan_cache_mode=force_generic_plan -c max_parallel_workers_per_gather=0 "
    "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off -c lock_timeout=200 "
    "-c statement_timeout=20s -c row_security=on -c session_replication_role=replica -c client_min_messages=error "
    "-c stats_fetch_consistency=none"
)
CATALOGS = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname), c.oid::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname IN ('pg_catalog', 'information_schema') AND relkind = 'r' AND NOT relisshared ORDER BY 1
"""
RELATIONS = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname), relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
    AND relkind IN ('r', 'm', 'S')
ORDER BY 1
"""
# A literal in a function's source becomes a constant by the settings of its first call, as long as its plan is kept.
# Source: PostgreSQL manual, PL/pgSQL, "Plan Caching".
REMEMBERS = """
SELECT EXISTS (SELECT FROM pg_proc p WHERE oid >= 16384
    AND (prosrc ~ '[''$]' OR to_jsonb(p) ->> 'prosqlbody' IS NOT NULL))
"""
# What would act on the statements that empty a table, although they run as a replica's do.
ACTS_ON_REPLICAS = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgenabled IN ('A', 'R'))
    OR EXISTS (SELECT FROM pg_rewrite WHERE ev_enabled IN ('A', 'R'))
"""
COUNTERS = """
SELECT sum(pg_stat_get_tuples_inserted(o) + pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o))::text
    AS marks
FROM unnest('{{{oids}}}'::oid[]) o
"""
# Written in place by ANALYZE, VACUUM and CREATE INDEX: no new row, and so neither dated nor counted. PostgreSQL's own
# relations have smaller oids. Source: PostgreSQL manual, "System Catalog Initial Data", "OID Assignment".
IN_PLACE = """
SELECT coalesce(bit_xor(hash_record_extended(row(oid, relpages, reltuples, relallvisible, relhasindex), 0)), 0)
FROM pg_class WHERE oid >= 16384
"""
PREPARED = "SELECT coalesce(json_agg(gid), '[]') FROM pg_prepared_xacts WHERE database = current_database()"
SESSIONS = """
SELECT coalesce(json_agg(json_build_array(
    a.pid, coalesce(pg_get_userbyid(a.usesysid), ''), coalesce(a.state, ''), a.backend_type)), '[]')
FROM pg_stat_get_activity(NULL) a
WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.pid <> pg_backend_pid()
    AND a.backend_type NOT LIKE 'autovacuum%'
"""
LOCKS = """
SELECT count(*) FROM pg_lock_status() WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SETTINGS = """
SELECT json_build_array(datdba, datistemplate, datallowconn, datconnlimit, dattablespace, datacl,
    array(SELECT row(setrole, setconfig) FROM pg_db_role_setting WHERE setdatabase = d.oid ORDER BY setrole),
    array(SELECT description FROM pg_shdescription WHERE objoid = d.oid AND classoid = 'pg_database'::regclass),
    array(SELECT row(provider, label) FROM pg_shseclabel
        WHERE objoid = d.oid AND classoid = 'pg_database'::regclass ORDER BY provider),
    array(SELECT slot_name FROM pg_get_replication_slots() WHERE datoid = d.oid ORDER BY slot_name),
    array(SELECT subname FROM pg_subscription WHERE subdbid = d.oid ORDER BY subname))
FROM pg_database d WHERE datname = current_database()
"""
# Either is a statement of its own, before all that look into the database: whoever leaves while it runs wrote what only
# a later snapshot shows. The second fails with DivisionByZero unless as many are connected as $1 says, ourselves
# included, and nothing is prepared; who they are need not be asked then, which takes four times as long.
AROUND = f"SELECT json_build_array(({SESSIONS}), ({PREPARED}))"
ALONE = """
SELECT to_json(1 / (pg_stat_get_db_numbackends(d.oid) = $1::int
    AND NOT EXISTS (SELECT FROM pg_prepared_xact() WHERE dbid = d.oid))::int)
FROM pg_database d WHERE datname = current_database()
"""
NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text"
SINCE = "<since>"  # stands for the parameter while the statement is put together


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's connection to the database."""

    pid: int
    user: str
    state: str
    kind: str


class Table(NamedTuple):
    """How many rows a table has, and how many of them were written since the database was handed out."""

    rows: int
    written: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as it is, but for its name and who is connected to it; the same for all clones of a template."""

    catalog: Table
    advisory_locks: int
    tables: tuple[Table, ...]
    sequences: tuple[str, ...]
    settings: list[Any]
    in_place: int


@dataclass(frozen=True, slots=True)
class Glance:
    """What can be told without dating the catalogs, and ``marks``, which stand still as long as those do.

    Advisory locks are not looked for: sessions and prepared transactions hold them, and those are.
    """

    marks: str
    tables: tuple[Table, ...]
    sequences: tuple[str, ...]
    settings: list[Any]
    in_place: int

    def over(self, catalog: Facts) -> Facts:
        """Return the facts as they are when the catalog is as it was."""
        contents = (self.tables, self.sequences, self.settings, self.in_place)
        return Facts(catalog.catalog, catalog.advisory_locks, *contents)


@dataclass(frozen=True, slots=True)
class Layout:
    """The relations of a database, as long as its catalog does not change; ``counted`` are the catalogs' oids.

    ``remembers``: plans of its functions may depend on settings of whoever called them first.
    """

    catalogs: tuple[str, ...]
    counted: str
    tables: tuple[str, ...]
    views: frozenset[str]
    sequences: tuple[str, ...]
    remembers: bool = True

    def glance(self) -> str:
        """Return the statement that reads a glance; its first parameter, $1, is the transaction to count from.

        $2 is what the marks should be, or "". It fails with ``DivisionByZero`` where they are not.
        """
        parts = ", ".join(["marks", *self._contents()])
        return f"""
        SELECT json_build_array({parts}) FROM ({COUNTERS.format(oids=self.counted)}) counted
        WHERE CASE $2 WHEN '' THEN true ELSE 1 / (marks = $2)::int = 1 END
        """.replace(SINCE, "$1::xid")

    def facts(self) -> str:
        """Return the statement that reads the facts, with the same parameter."""
        youngest = (f"SELECT count(*) AS rows, min(age(xmin)) AS age FROM ONLY {name}" for name in self.catalogs)
        catalog = f"SELECT sum(rows)::int8 AS rows, min(age) AS age FROM ({' UNION ALL '.join(youngest)}) each"
        parts = [
            f"(SELECT json_build_array(rows, (age <= age({SINCE}))::int) FROM ({catalog}) whole)",
            f"({LOCKS})",
            *self._contents(),
        ]
        return f"SELECT json_build_array({', '.join(parts)})".replace(SINCE, "$1::xid")

    def _contents(self) -> list[str]:
        tables = (f"(SELECT json_build_array(rows, written) FROM ({_dated(name)}) t)" for name in self.tables)
        sequences = (f"(SELECT last_value || ' ' || is_called FROM {name})" for name in self.sequences)
        return [
            *(f"json_build_array({', '.join(each)})" for each in (tables, sequences)),
            f"({SETTINGS})",
            f"({IN_PLACE})",
        ]


def _dated(name: str) -> str:
    """Return the query that counts the rows of a relation, and those written since."""
    written = f"count(*) FILTER (WHERE age(xmin) <= (SELECT age({SINCE})))"
    return f"SELECT count(*) AS rows, {written} AS written FROM ONLY {name}"


def connect(dsn: str) -> psycopg.Connection:
    """Open a connection that reads and resets, whatever was set for the database or the role."""
    return connecting.connect(
        dsn, autocommit=True, prepare_threshold=0, options=OPTIONS, application_name="session-fix"
    )


def layout(connection: psycopg.Connection) -> Layout:
    """Return the relations of the database."""
    catalogs, relations = (connection.execute(query).fetchall() for query in (CATALOGS, RELATIONS))
    return Layout(
        tuple(name for name, _ in catalogs),
        ",".join(oid for _, oid in catalogs),
        tuple(name for name, kind in relations if kind in "rm"),
        frozenset(name for name, kind in relations if kind == "m"),
        tuple(name for name, kind in relations if kind == "S"),
        remembers=connection.execute(REMEMBERS).fetchall() != [(False,)],
    )


def acts_on_replicas(connection: psycopg.Connection) -> bool:
    """Say whether a trigger or a rule would act on the statements that reset a table."""
    return connection.execute(ACTS_ON_REPLICAS).fetchall() == [(True,)]


def next_transaction(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> int:
    """Return a transaction id that nothing which is finished has, and whatever starts now exceeds or equals.

    ``execute`` is that of any database of the server: transactions are counted for all of them together.
    """
    ((found,),) = execute(NEXT_TRANSACTION)
    return int(found)


def around_of(found: list[list[Any]]) -> tuple[list[Session], list[str]]:
    """Return who ``AROUND`` found connected to the database, and what is prepared in it."""
    sessions, prepared = found
    return [Session(*session) for session in sessions], prepared


def look(
    first: Prepared,
    number: int | None,
    then: Prepared,
    since: int,
    marks: str,
    deletion: Prepared | None,
    told: Callable[[PGresult], None] | None,
) -> Task[tuple[Any, Glance, list[int]]]:
    """Return what ``first`` finds, ``AROUND`` or ``ALONE``, a glance after that, and how much is deleted after both.

    All is sent at once; ``told`` is called with what was found by the statement sent ahead, None where none was.
    Raises ``DivisionByZero``, and deletes nothing, where not ``number`` are connected (None for any) or the marks are
    others ("" for any).
    """
    sendings: list[Callable[[], None]] = [
        partial(first.send, *(() if number is None else (number,))),
        partial(then.send, since, marks),
    ]
    if deletion:
        sendings.append(partial(deletion.send, since))
    about, contents, *deleted = yield from together(first.connection, *sendings, told=told)
    return first.value(about), _glance(then.value(contents)), deletion.value(*deleted) if deletion else []


def glance(statement: Prepared, since: int) -> Task[Glance]:
    """Return what the glance's statement finds."""
    return _glance((yield from statement(since, "")))


def _glance(found: list[Any]) -> Glance:
    marks, *contents = found
    return Glance(marks, *_contents(*contents))


def _contents(
    tables: list[list[int]], sequences: list[str], settings: list[Any], in_place: int
) -> tuple[tuple[Table, ...], tuple[str, ...], list[Any], int]:
    return tuple(Table(*table) for table in tables), tuple(sequences), settings, in_place


def read(statement: Prepared, since: int) -> Task[Facts]:
    """Return the database as it is; the statement is its layout's."""
    catalog, locks, *contents = yield from statement(since)
    return Facts(Table(*catalog), locks, *_contents(*contents))


def deletion(tables: Iterable[str], most: int) -> str:
    """Return the statement that deletes the rows written since, from all the tables at once.

    Where there are more than ``most`` in all, it deletes none. It returns, as JSON, how many from each; its parameter,
    $1, is the transaction to count from.
    """
    names, written = list(tables), "age(xmin) <= (SELECT age($1::xid))"
    counts = " + ".join(f"(SELECT count(*) FROM ONLY {name} WHERE {written})" for name in names)
    deletes = [
        f"gone_{i} AS (DELETE FROM ONLY {name} WHERE {written} AND (SELECT few FROM of_all) RETURNING 1)"
        for i, name in enumerate(names)
    ]
    gone = [f"(SELECT count(*) FROM gone_{i})" for i, _ in enumerate(deletes)]
    return f"""
    WITH of_all AS MATERIALIZED (SELECT {counts} <= {most} AS few), {", ".join(deletes)}
    SELECT json_build_array({", ".join(gone)})
    """
