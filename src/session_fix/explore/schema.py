"""What ``accesses.py`` has to know of a database, asked of the database itself."""

from __future__ import annotations

from session_fix.databases import Database
from session_fix.explore.accesses import Reference, Schema
from session_fix.rollout import objects

KEYS = """
SELECT c.relname, a.attname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_attribute a ON a.attrelid = c.oid
WHERE k.contype = 'p' AND cardinality(k.conkey) = 1 AND a.attnum = k.conkey[1]
    AND c.relnamespace = 'public'::regnamespace
"""
REFERENCES = """
SELECT child.relname, a.attname, parent.relname, b.attname
FROM pg_constraint k
    JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid
    JOIN pg_attribute a ON a.attrelid = child.oid AND a.attnum = k.conkey[1]
    JOIN pg_attribute b ON b.attrelid = parent.oid AND b.attnum = k.confkey[1]
WHERE k.contype = 'f' AND cardinality(k.conkey) = 1
"""
# Objects of ours that would be opaque in somebody else's hands, each with the columns that it writes: only as the
# migrations leave them, down to the source of a trigger's function.
KNOWN: dict[str, tuple[str, frozenset[str]]] = {
    "trigger ai_sessions.ai_sessions_touch": ("ai_sessions", frozenset({"updated_at"})),
    "constraint ai_sessions.ai_sessions_times_finite": ("ai_sessions", frozenset()),  # of each column by itself
}
# A table where one row's call stays with that row: see ``Schema``.
SIMPLE = """
SELECT relname FROM pg_class c
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT relispartition AND NOT relhassubclass
    AND NOT relhasrules
    AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND c.relrowsecurity
        AND NOT (coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') IN ('true', 'false')
            AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') IN ('true', 'false')))
    AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
        AND format('trigger %%s.%%s', c.relname, t.tgname) <> ALL(%(known)s))
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
        AND (cardinality(k.conkey) > 1 OR NOT k.convalidated
            OR regexp_replace(pg_get_constraintdef(k.oid), 'isfinite\\(', '', 'g') ~ '\\w\\(')
        AND format('constraint %%s.%%s', c.relname, k.conname) <> ALL(%(known)s))
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
        AND NOT i.indisprimary)
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE c.oid IN (k.conrelid, k.confrelid) AND k.contype = 'f'
        AND (cardinality(k.conkey) > 1 OR k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r')))
    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
        AND (a.attidentity <> '' OR a.attgenerated <> ''))
    AND NOT EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid
        AND regexp_replace(pg_get_expr(d.adbin, d.adrelid), 'now\\(|timezone\\(|gen_random_uuid\\(', '', 'g') ~ '\\(')
"""


def read(database: Database) -> Schema:
    """Return the schema of the tables that the data API shows."""
    with database.connect() as connection:
        found, newest = objects.read(connection), objects.of_revision(objects.revisions()[-1])
        known = [name for name in KNOWN if name in found and found[name] == newest[name]]
        return Schema(
            dict(connection.execute(KEYS).fetchall()),
            tuple(Reference(*row) for row in connection.execute(REFERENCES)),
            frozenset(name for (name,) in connection.execute(SIMPLE, {"known": known})),
            on_update={table: columns for table, columns in map(KNOWN.__getitem__, known) if columns},
        )
