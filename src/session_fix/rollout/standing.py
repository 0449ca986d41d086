"""Where a database stands, in one snapshot: what it is, its version, its schema, what decides about its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from session_fix.rollout import catalog, objects, target
from session_fix.rollout.facts import API_ROLES, HAS_VERSIONS, VERSIONS
from session_fix.rollout.found import Facts
from session_fix.rollout.objects import Objects
from session_fix.rollout.plan import Binding
from session_fix.rollout.reader import Reader
from session_fix.rollout.wanted import RIGHTS, TABLES, VERSION_TABLE

TIMEOUT_S = 10.0

IDENTIFIER = "SELECT system_identifier::text FROM pg_control_system()"
# Where that is not for the role to read: OIDs, which come out the same on another server by chance alone.
IDENTIFIER_INSTEAD = """
SELECT concat_ws('/', 'oids', (SELECT oid FROM pg_database WHERE datname = current_database()),
    (SELECT string_agg(oid::text, '/' ORDER BY relname) FROM pg_class
        WHERE relnamespace::regnamespace::text = 'public' AND relname = ANY(%s)))
"""
# Who owns neither table and is no superuser, but was granted something on one: row security binds it.
OTHERS = """
SELECT DISTINCT r.rolname FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace::regnamespace::text = 'public' AND c.relname = ANY(%s) AND r.oid <> c.relowner
    AND NOT (r.rolsuper OR r.rolbypassrls) AND r.rolname <> ALL(%s) ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What was read. ``roles`` are those of the data API that exist, ``rights`` what each may do, by table.

    ``others`` are further roles that were granted something and are bound by row security. ``facts`` are those of an
    audit: sizes, counts, time zones, open transactions; None where nobody asked for them.
    """

    binding: Binding
    objects: Objects = field(default_factory=dict)
    has_versions: bool = True
    roles: frozenset[str] = frozenset()
    rights: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    facts: Facts | None = None

    @property
    def tables(self) -> frozenset[str]:
        """Those of our tables that are there."""
        return frozenset(name for name in TABLES if f"table {name}" in self.objects)


def read(params: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Standing:
    """Return where the database at these libpq parameters stands. Raises ``DatabaseUnreadableError``."""
    with target.reading(params, timeout_s=timeout_s) as (connection, _):
        reader = Reader(connection)
        found = objects.read(connection)
        has_versions = connection.execute(HAS_VERSIONS, (VERSION_TABLE,)).fetchone() is not None
        versions = connection.execute(VERSIONS).fetchall() if has_versions else []
        tables = catalog.tables(connection)
        owners = sorted({table.owner for table in tables.values()})
        others = connection.execute(OTHERS, (list(TABLES), list(RIGHTS))).fetchall()
        return Standing(
            binding=Binding(
                system_identifier=_identifier(reader),
                database=_one(connection, "SELECT current_database()"),
                server_version=connection.info.server_version,
                fingerprint=objects.fingerprint(found),
                versions=tuple(str(version) for (version,) in versions),
            ),
            objects=found,
            has_versions=has_versions,
            roles=frozenset(name for name, *_ in connection.execute(API_ROLES, (list(RIGHTS),))),
            rights={name: table.rights for name, table in tables.items()},
            others=tuple(name for (name,) in others if name not in owners),
        )


def _identifier(reader: Reader) -> str:
    found = reader.rows(IDENTIFIER, what="the system identifier")
    return str(found[0][0]) if found else _one(reader.connection, IDENTIFIER_INSTEAD, list(TABLES))


def _one(connection: psycopg.Connection, query: str, *values: object) -> str:
    return str((connection.execute(query, values or None).fetchone() or ("",))[0])
