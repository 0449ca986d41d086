"""The ways past the grants and policies of our tables: views that read them, functions with their owner's rights."""

from __future__ import annotations

import psycopg

from session_fix.rollout.found import Definer, View
from session_fix.rollout.wanted import RIGHTS, TABLES

OURS = "c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') AND c.relname = ANY(%(tables)s)"
# Views of views, too. A materialized one is a copy: what binds who reads the table does not bind who reads that.
VIEWS = f"""
WITH RECURSIVE reading(view) AS (
    SELECT r.ev_class FROM pg_class c JOIN pg_depend d ON (d.refclassid, d.refobjid) = ('pg_class'::regclass, c.oid)
        JOIN pg_rewrite r ON (d.classid, d.objid) = ('pg_rewrite'::regclass, r.oid) WHERE {OURS} AND r.ev_class <> c.oid
    UNION
    SELECT r.ev_class FROM reading JOIN pg_depend d ON (d.refclassid, d.refobjid) = ('pg_class'::regclass, view)
        JOIN pg_rewrite r ON (d.classid, d.objid) = ('pg_rewrite'::regclass, r.oid) WHERE r.ev_class <> view
)
SELECT v.oid::regclass::text, v.relkind = 'v' AND EXISTS (
        SELECT FROM pg_options_to_table(v.reloptions)
        WHERE option_name = 'security_invoker' AND option_value::bool),
    ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.rolname = ANY(%(roles)s) AND r.oid <> v.relowner
        AND has_schema_privilege(r.oid, v.relnamespace, 'USAGE')
        AND (has_any_column_privilege(r.oid, v.oid, 'SELECT, INSERT, UPDATE')
            OR has_table_privilege(r.oid, v.oid, 'DELETE')))
FROM reading JOIN pg_class v ON v.oid = view WHERE v.relkind IN ('v', 'm') ORDER BY 1
"""
# What a function does is a text, unless it is written as BEGIN ATOMIC; then it depends on what it names.
DEFINERS = f"""
SELECT p.oid::regprocedure::text,
    EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%%'),
    ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.rolname = ANY(%(roles)s) AND r.oid <> p.proowner
        AND p.prorettype <> 'trigger'::regtype AND has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE'))
FROM pg_proc p
WHERE p.prosecdef AND (
    regexp_replace(p.prosrc, '--[^\\n]*|/[*].*?[*]/', ' ', 'g')
        ~ ('\\m(' || array_to_string(%(tables)s::text[], '|') || ')\\M')
    OR EXISTS (SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid
        WHERE (d.classid, d.objid) = ('pg_proc'::regclass, p.oid) AND d.refclassid = 'pg_class'::regclass AND {OURS}))
ORDER BY 1
"""


def read(connection: psycopg.Connection) -> tuple[tuple[View, ...], tuple[Definer, ...]]:
    """Return the views and functions, with who of the data API's roles may use them. Any role may ask."""
    given = {"tables": list(TABLES), "roles": list(RIGHTS)}
    views, definers = (connection.execute(query, given).fetchall() for query in (VIEWS, DEFINERS))
    return (
        tuple(View(name, invoker, frozenset(roles)) for name, invoker, roles in views),
        tuple(Definer(name, search_path, frozenset(roles)) for name, search_path, roles in definers),
    )
