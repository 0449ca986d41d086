"""A schema as a flat record, one entry an object, so that two can be held against each other entry by entry.

Read from the catalogs with PostgreSQL's own words for each definition (``pg_get_constraintdef()`` and the like), which
say the same in versions 15 to 18. What each revision of the migrations leaves lies in ``migrations/schemas.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache

import psycopg

from session_fix import folders
from session_fix.rollout.wanted import TABLES

Objects = Mapping[str, str]  # the name of an object, such as "column ai_sessions.id", to its definition

OURS = "c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') AND c.relname = ANY(%(tables)s)"
LONGEST = 2**31
ROLES = ("anon", "authenticated", "service_role")
QUERIES = (
    f"""SELECT 'table ' || c.relname,
        CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' ELSE 'kind ' || c.relkind::text END
        || CASE WHEN c.relrowsecurity THEN ', row security' ELSE '' END
        || CASE WHEN c.relforcerowsecurity THEN ' for its owner, too' ELSE '' END FROM pg_class c WHERE {OURS}""",
    f"""SELECT format('column %%s.%%s', c.relname, a.attname), concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN 'NOT NULL' END,
        CASE WHEN a.attgenerated <> '' THEN 'GENERATED' WHEN a.attidentity <> '' THEN 'IDENTITY' END,
        'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped""",
    # NOT NULL became a constraint with a name in version 18; it is the column's in this record.
    f"""SELECT format('constraint %%s.%%s', c.relname, k.conname), pg_get_constraintdef(k.oid)
        || CASE WHEN NOT coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
            AND pg_get_constraintdef(k.oid) NOT LIKE '%%NOT ENFORCED%%' THEN ' NOT ENFORCED' ELSE '' END
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE {OURS} AND k.contype <> 'n'""",
    f"""SELECT format('index %%s.%%s', c.relname, x.relname), pg_get_indexdef(x.oid)
        || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' INVALID' END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE {OURS}""",
    f"""SELECT format('trigger %%s.%%s', c.relname, t.tgname), pg_get_triggerdef(t.oid)
        || CASE t.tgenabled WHEN 'O' THEN '' WHEN 'A' THEN ' ALWAYS' WHEN 'R' THEN ' REPLICA' ELSE ' DISABLED' END
        || coalesce((SELECT ' ' || p.prosrc FROM pg_proc p WHERE p.oid = t.tgfoid), '')
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE {OURS} AND NOT t.tgisinternal""",
    # Those that keep a foreign key have names with numbers in them; only what is wrong with them counts.
    f"""SELECT format('trigger of %%s on %%s', k.conname, c.relname), 'DISABLED'
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
    WHERE {OURS} AND t.tgisinternal AND t.tgenabled IN ('D', 'R')""",
    f"""SELECT format('policy %%s.%%s', c.relname, p.polname), concat_ws(' ',
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, 'FOR', p.polcmd::text, 'TO',
        (SELECT string_agg(CASE u.id WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(u.id)::text END, ', ' ORDER BY 1)
            FROM unnest(p.polroles) u(id)),
        'USING ' || pg_get_expr(p.polqual, p.polrelid), 'WITH CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE {OURS}""",
    # What a role was granted by name; for columns as well as for the table.
    f"""SELECT format('grant %%s to %%s', c.relname, coalesce(r.rolname, 'PUBLIC')),
        string_agg(DISTINCT g.privilege, ', ' ORDER BY g.privilege)
    FROM pg_class c CROSS JOIN LATERAL (
        SELECT a.grantee, a.privilege_type AS privilege FROM aclexplode(c.relacl) a
        UNION ALL SELECT a.grantee, a.privilege_type || '(' || t.attname || ')'
        FROM pg_attribute t CROSS JOIN aclexplode(t.attacl) a WHERE t.attrelid = c.oid) g
    LEFT JOIN pg_roles r ON r.oid = g.grantee
    WHERE {OURS} AND (g.grantee = 0 OR r.rolname = ANY(%(roles)s)) GROUP BY 1""",
)


def read(connection: psycopg.Connection) -> Objects:
    """Return what there is of our tables. Raises ``psycopg.Error``.

    PostgreSQL locks a table in ACCESS SHARE to write its definitions out: what ALTER TABLE holds is waited for.
    """
    found: dict[str, str] = {}
    with connection.transaction():
        connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")  # names come with their schema
        for query in QUERIES:
            found |= dict(connection.execute(query, {"tables": list(TABLES), "roles": list(ROLES)}).fetchall())
    return found


def fingerprint(objects: Objects) -> str:
    """Return 16 hexadecimal digits that change with any object."""
    return hashlib.sha256(json.dumps(sorted(objects.items())).encode()).hexdigest()[:16]


def difference(found: Objects, wanted: Objects, *, exact: bool = True) -> dict[str, tuple[str | None, str | None]]:
    """Return what differs, by object: the definition that is found and the one that is wanted, None where it is not.

    Unless ``exact``, what serves as well does not differ: a constraint that was validated where one is NOT VALID, since
    no revision undoes that, and a column that holds more or has a default of its own.
    """
    pairs = {name: (found.get(name), wanted.get(name)) for name in sorted(found.keys() | wanted.keys())}
    return {name: (has, wants) for name, (has, wants) in pairs.items() if not _agree(name, has, wants, exact=exact)}


def _agree(name: str, found: str | None, wanted: str | None, *, exact: bool) -> bool:
    if found == wanted:
        return True
    if exact or found is None or wanted is None:
        return False
    return _serves(found, wanted) if name.startswith("column ") else wanted == f"{found} NOT VALID"


COLUMN = re.compile(
    r"(?P<type>.*?)(?P<not_null> NOT NULL)?(?P<made> GENERATED| IDENTITY)?(?: DEFAULT (?P<default>.*))?"
)


def _serves(found: str, wanted: str) -> bool:
    """Say whether a column takes and gives back all that the wanted one does, whoever names it or not."""
    has, wants = (COLUMN.fullmatch(text) for text in (found, wanted))
    if not has or not wants or has["made"] != wants["made"]:
        return False
    if wants["default"] and has["default"] != wants["default"]:
        return False
    if has["not_null"] != wants["not_null"] and (wants["not_null"] or not has["default"]):
        return False
    return has["type"] == wants["type"] or holds(has["type"], wants["type"])


def holds(found: str, wanted: str) -> bool:
    """Say whether one type holds every value of another, and shows it as the other does.

    >>> holds("text", "character varying(50)"), holds("character varying(20)", "character varying(50)")
    (True, False)
    """
    if wanted == "integer":
        return found in ("bigint", "numeric")
    length = re.fullmatch(r"character varying\((\d+)\)|text", wanted)
    has = re.fullmatch(r"character varying(?:\((\d+)\))?|text", found)
    return bool(length and has and int(has[1] or LONGEST) >= int(length[1] or LONGEST))


def revisions() -> tuple[str, ...]:
    """Return the ids of the revisions, the oldest first."""
    return tuple(_changes())


@cache
def of_revision(revision: str, roles: frozenset[str] = frozenset(ROLES)) -> Objects:
    """Return what a revision leaves on a server that has these of the data API's roles.

    The file says of each revision what it changes: an object's new definition, None where it is gone. Raises
    ``KeyError`` for a revision that is none of ours.
    """
    objects: dict[str, str] = {}
    for name, changes in _changes().items():
        objects |= changes
        if name == revision:
            return {one: text for one, text in objects.items() if text is not None and _is_there(one, text, roles)}
    raise KeyError(revision)


@cache
def _changes() -> dict[str, dict[str, str]]:
    file = folders.bundled("migrations") / "schemas.json"
    loaded: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def _is_there(name: str, definition: str, roles: frozenset[str]) -> bool:
    """Say whether an object exists where only these roles do: a grant or a policy for another is passed over."""
    kind, _, of = name.partition(" ")
    if kind == "grant":
        return of.rpartition(" to ")[2] in roles
    return kind != "policy" or definition.partition(" TO ")[2].partition(" ")[0] in roles
