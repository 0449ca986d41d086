"""Reads what an audit judges: one snapshot, nothing written, each statement within its time and its lock's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import psycopg

from session_fix.errors import DatabaseUnreadableError
from session_fix.rollout import catalog, doors, objects
from session_fix.rollout.counting import EXACT_BELOW_BYTES, SAMPLE_BYTES, counts
from session_fix.rollout.found import Facts, Transaction
from session_fix.rollout.reader import Reader
from session_fix.rollout.target import reading
from session_fix.rollout.wanted import RIGHTS, TABLES, VERSION_TABLE

LOGIN = "authenticator"  # as whom the data API of Supabase comes in
TRANSACTION_POOLER_PORT = "6543"  # Source: Supabase's documentation, "Connect to your database"
SERVER = """
SELECT current_database(), current_user, current_setting('server_version'), pg_is_in_recovery(), pg_backend_pid(),
    (SELECT count(*) FROM pg_stat_replication)
"""
SIZES = "SELECT pg_relation_size(%s::regclass), pg_total_relation_size(%s::regclass)"
ELSEWHERE = """
SELECT format('%%s.%%s', c.relnamespace::regnamespace, c.relname) FROM pg_class c
WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text <> 'public'
    AND c.relpersistence <> 't' ORDER BY 1
"""
REFERENCING = """
SELECT DISTINCT format('%%s.%%s', c.relnamespace::regnamespace, c.relname)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid
WHERE k.contype = 'f' AND p.relnamespace::regnamespace::text = 'public' AND p.relname = ANY(%s)
    AND NOT (c.relnamespace::regnamespace::text = 'public' AND c.relname = ANY(%s)) ORDER BY 1
"""
API_ROLES = """
SELECT rolname, EXISTS (
    SELECT FROM pg_namespace n WHERE nspname = 'public' AND has_schema_privilege(r.oid, n.oid, 'USAGE')),
    rolsuper OR rolbypassrls
FROM pg_roles r WHERE rolname = ANY(%s)
"""
# Names of settings kept for the database or a role, never a value.
SETTINGS = """
SELECT DISTINCT split_part(s, '=', 1) FROM pg_db_role_setting, unnest(setconfig) s
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND (split_part(s, '=', 1) ~* '[.].*(secret|password|token|jwt|api_?key)' AND split_part(s, '=', 1) !~* '_exp$'
        OR s ~* '^default_transaction_read_only=(on|true|yes|1)$' OR s = 'session_replication_role=replica') ORDER BY 1
"""
# Whose time zone a timestamp without an offset is taken for. Ours is the server's own unless we brought it along; what
# is kept for a role, the data API sets when it acts as it.
TIME_ZONES = """
SELECT 'the database', setting FROM pg_settings
WHERE name = 'TimeZone' AND source NOT IN ('client', 'session', 'user', 'database user')
UNION SELECT CASE setrole WHEN 0 THEN 'the database' ELSE format('the role %%s', pg_get_userbyid(setrole)) END,
    substr(s, length('TimeZone=') + 1)
FROM pg_db_role_setting, unnest(setconfig) s
WHERE s ILIKE 'TimeZone=%%' AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND (setrole = 0 OR pg_get_userbyid(setrole) = ANY(%s)) ORDER BY 1
"""
TRANSACTIONS = """
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::int8,
    coalesce(nullif(application_name, ''), backend_type, ''), coalesce(state, '') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - prepared)::int8, '', 'prepared' FROM pg_prepared_xacts
WHERE database = current_database() ORDER BY 2 DESC
"""
# Of a session that the role may not look into, all but its address is NULL.
HIDDEN_SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type IS NULL
"""
# Not to_regclass(): that is refused to a role that may not use the schema.
HAS_VERSIONS = "SELECT FROM pg_class WHERE relnamespace::regnamespace::text = 'public' AND relname = %s"
VERSIONS = f"SELECT version_num FROM public.{VERSION_TABLE} ORDER BY 1"


def read(
    target: Mapping[str, str],
    *,
    timeout_s: float = 10.0,
    exact: bool = False,
    exact_below_bytes: int = EXACT_BELOW_BYTES,
    sample_bytes: int = SAMPLE_BYTES,
) -> Facts:
    """Return what there is in the database at these libpq parameters.

    A table of ``exact_below_bytes`` or more is sampled instead of counted, unless ``exact``. ``timeout_s`` is for each
    statement. Raises ``DatabaseUnreadableError``.
    """
    with reading(target, timeout_s=timeout_s) as (connection, options_arrived):
        reader = Reader(connection)
        server = connection.execute(SERVER).fetchone() or ()
        facts = Facts(
            database=server[0],
            role=server[1],
            version=server[2],
            replica=server[3],
            replicas=server[5],
            pooler=tuple(_pooler_signs(target, connection, options_arrived=options_arrived, pid=server[4])),
        )
        facts = _with_schema(facts, reader)
        largest_bytes = None if exact else exact_below_bytes
        facts = replace(facts, counts=counts(facts.tables, reader, largest_bytes, sample_bytes))
        facts = _with_surroundings(facts, reader)
        wrote = connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
        if wrote != (None,):
            raise DatabaseUnreadableError("The audit's transaction was given an id, as if it had written something.")
        return replace(facts, unseen=tuple(reader.unseen))


def _pooler_signs(
    target: Mapping[str, str], connection: psycopg.Connection, *, options_arrived: bool, pid: int
) -> list[str]:
    signs = []
    if TRANSACTION_POOLER_PORT in target.get("port", "").split(","):
        signs.append(f"port {TRANSACTION_POOLER_PORT} is that of Supabase's transaction mode")
    if not options_arrived:
        signs.append("connection options did not reach the server")
    if connection.info.backend_pid != pid:
        signs.append("the process that was announced is not the one that answers")
    return signs


def _with_schema(facts: Facts, reader: Reader) -> Facts:
    names = list(TABLES)
    tables = catalog.tables(reader.connection)
    for name, table in tables.items():
        sizes = reader.rows(SIZES, *[f"public.{name}"] * 2, what=f"the size of {name}", matters=False)
        if sizes:
            tables[name] = replace(table, heap_bytes=sizes[0][0], total_bytes=sizes[0][1])
    has_versions = reader.connection.execute(HAS_VERSIONS, (VERSION_TABLE,)).fetchone() is not None
    found = reader.rows(VERSIONS, what="the Alembic version") if has_versions else None
    api_roles = reader.connection.execute(API_ROLES, (list(RIGHTS),)).fetchall()
    views, definers = doors.read(reader.connection)
    return replace(
        facts,
        tables=tables,
        has_versions=has_versions,
        versions=None if found is None else tuple(str(version) for (version,) in found),
        elsewhere=tuple(name for (name,) in reader.connection.execute(ELSEWHERE, (names,))),
        referencing=tuple(name for (name,) in reader.connection.execute(REFERENCING, (names, names))),
        roles=frozenset(role for role, _, _ in api_roles),
        usage=frozenset(role for role, may_use, _ in api_roles if may_use),
        bypass=frozenset(role for role, _, bypasses in api_roles if bypasses),
        views=views,
        definers=definers,
        objects=_objects(reader),
    )


def _objects(reader: Reader) -> objects.Objects | None:
    try:
        return objects.read(reader.connection)
    except psycopg.errors.LockNotAvailable:
        reader.miss("checks, triggers and what is pending", "somebody holds a lock on a table")
        return None


def _with_surroundings(facts: Facts, reader: Reader) -> Facts:
    settings = reader.rows(SETTINGS, what="settings of the database", matters=False) or []
    zones = reader.rows(TIME_ZONES, [*RIGHTS, LOGIN], what="time zones", matters=False) or []
    found = reader.rows(TRANSACTIONS, what="open transactions", matters=False) or []
    hidden = reader.rows(HIDDEN_SESSIONS, what="other sessions", matters=False)
    if hidden and hidden[0][0]:
        reader.miss(
            f"transactions of {hidden[0][0]} sessions of other roles", "that takes pg_read_all_stats", matters=False
        )
    return replace(
        facts,
        settings=tuple(name for (name,) in settings),
        time_zones=dict(zones),
        transactions=tuple(Transaction(*row) for row in found),
    )
