"""What PostgreSQL's catalogs say of our tables. Any role may read them. Names are written out: search_path is bare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from session_fix.rollout.found import Column, Constraint, Index, Policy, Table, Trigger
from session_fix.rollout.wanted import RIGHTS, TABLES

VERSION_17 = 170_000


def _expression(tree: str, table: str) -> str:
    """Return the SQL for an expression's text. PostgreSQL locks its table, unless none is named and no column is in it.

    Both are columns of a catalog. Whoever holds the table would be waited for.
    """
    return f"pg_get_expr({tree}, CASE WHEN {tree}::text LIKE '%%{{VAR %%' THEN {table} ELSE 0 END)"


# Goes into each query below: S608 is about that, and there is nothing in it that anybody else wrote.
OURS = "c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') AND c.relname = ANY(%s)"

RELATIONS = f"""
SELECT c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relrowsecurity, row_security_active(c.oid),
    CASE WHEN c.reltuples < 0 OR c.relkind <> 'r' THEN NULL ELSE c.reltuples::int8 END
FROM pg_class c WHERE {OURS}
"""
COLUMNS = f"""
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, {_expression("d.adbin", "d.adrelid")},
    has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# conenforced came with PostgreSQL 18; a row as JSON has it where it is.
CONSTRAINTS = f"""
SELECT c.relname, k.conname, k.contype::text,
    coalesce((SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.conkey) WITH ORDINALITY u(num, n)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num), '{{}}'),
    coalesce((SELECT format('%%s.%%s', p.relnamespace::regnamespace, p.relname) FROM pg_class p
        WHERE p.oid = k.confrelid), ''),
    coalesce((SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.confkey) WITH ORDINALITY u(num, n)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num), '{{}}'),
    k.confdeltype::text, k.confupdtype::text, k.condeferrable, k.convalidated,
    coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE {OURS} ORDER BY k.conname
"""
# Who builds an index is hidden from some roles: then it may be any that is not valid yet.
INDEXES = f"""
SELECT c.relname, x.relname,
    coalesce((SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(num, n)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.num), '{{}}'),
    i.indisvalid AND i.indisready,
    EXISTS (SELECT FROM pg_stat_progress_create_index p
        WHERE p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND coalesce(nullif(p.index_relid, 0), i.indexrelid) = i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE {OURS}
ORDER BY x.relname
"""
# Those on the referenced table, too: with them disabled, a session can be deleted under its interactions.
TRIGGERS = f"""
SELECT c.relname, t.tgname, coalesce(k.conname, '')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE {OURS} AND t.tgenabled IN ('D', 'R') ORDER BY t.tgname
"""
POLICIES = f"""
SELECT c.relname, p.polname, p.polcmd::text,
    ARRAY(SELECT CASE u.id WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(u.id)::text END FROM unnest(p.polroles) u(id)),
    {_expression("p.polqual", "p.polrelid")}, {_expression("p.polwithcheck", "p.polrelid")}, p.polpermissive
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE {OURS} ORDER BY p.polname
"""
# Rights that a role has in effect; the four that exist for columns count where a single column has one.
GRANTS = f"""
SELECT c.relname, r.rolname, array_agg(u.name)
FROM pg_class c, pg_roles r, unnest(%s::text[]) u(name)
WHERE {OURS} AND r.rolname = ANY(%s) AND CASE
    WHEN u.name IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND r.rolname <> 'service_role'
        THEN has_any_column_privilege(r.oid, c.oid, u.name)
    ELSE has_table_privilege(r.oid, c.oid, u.name) END
GROUP BY 1, 2
"""
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def tables(connection: psycopg.Connection) -> dict[str, Table]:
    """Return the relations that have the names of our tables, without sizes."""
    names = list(TABLES)
    privileges = [*PRIVILEGES, *(["MAINTAIN"] if connection.info.server_version >= VERSION_17 else [])]

    def by_table(query: str, *values: Any) -> dict[str, list[tuple[Any, ...]]]:
        return _grouped(connection.execute(query, (*values, names)).fetchall())

    columns, constraints, indexes = by_table(COLUMNS), by_table(CONSTRAINTS), by_table(INDEXES)
    triggers, policies = by_table(TRIGGERS), by_table(POLICIES)
    granted = _grouped(connection.execute(GRANTS, (privileges, names, list(RIGHTS))).fetchall())
    return {
        name: Table(
            name=name,
            kind=kind,
            owner=owner,
            columns={row[0]: Column(*row) for row in columns.get(name, ())},
            constraints=tuple(_constraint(*row) for row in constraints.get(name, ())),
            indexes=tuple(Index(row[0], tuple(row[1]), *row[2:]) for row in indexes.get(name, ())),
            triggers=tuple(Trigger(*row) for row in triggers.get(name, ())),
            policies=tuple(Policy(row[0], row[1], frozenset(row[2]), *row[3:]) for row in policies.get(name, ())),
            row_security=row_security,
            hides_rows=hides_rows,
            rows=rows,
            rights={role: frozenset(rights) for role, rights in granted.get(name, ())},
        )
        for name, kind, owner, row_security, hides_rows, rows in connection.execute(RELATIONS, (names,))
    }


def _grouped(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, *values in rows:
        found.setdefault(name, []).append(tuple(values))
    return found


def _constraint(
    name: str, kind: str, columns: list[str], target: str, target_columns: list[str], *rest: Any
) -> Constraint:
    on_delete, on_update, *flags = rest
    actions = (on_delete.strip(), on_update.strip())
    return Constraint(name, kind, tuple(columns), target, tuple(target_columns), *actions, *flags)
