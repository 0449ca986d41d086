"""What a test may change for the whole server, beside its own database: seen after each test, and put back.

A server that several workers share shows each of them what the others' tests are doing just now. There, only what no
test may do without the harness noticing is looked at, the data API's roles and the server's configuration, and a role
or database that a test leaves stays until the run ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from session_fix.databases import Database, Databases
from session_fix.errors import ServerChangedError
from session_fix.isolation.tasks import Prepared
from session_fix.leftovers import DATABASE_NAME, OURS, ROLE_NAME, RUN
from session_fix.roles import API_ROLES

QUERY = f"""
SELECT jsonb_build_object(
    'role', (SELECT jsonb_object_agg(a.rolname, md5(concat(
            to_jsonb(a) - 'oid', s.settings,
            shobj_description(a.oid, 'pg_authid'))))
        FROM pg_authid a
        LEFT JOIN (SELECT setrole, string_agg(setconfig::text, '') AS settings FROM pg_db_role_setting
            WHERE setdatabase = 0 GROUP BY 1) s ON s.setrole = a.oid
        WHERE rolname !~ '{ROLE_NAME.format(run=RUN)}'),
    'setting of all roles', (SELECT jsonb_object_agg('by ALTER ROLE ALL', setconfig::text) FROM pg_db_role_setting
        WHERE setrole = 0 AND setdatabase = 0),
    'membership', (SELECT jsonb_object_agg(m.roleid::regrole || ' TO ' || m.member::regrole,
            to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname !~ '{ROLE_NAME.format(run=RUN)}'),
    'database', (SELECT jsonb_object_agg(datname, md5(concat(datdba, datistemplate, datallowconn, datconnlimit, datacl,
            s.settings, shobj_description(d.oid, 'pg_database'))))
        FROM pg_database d
        LEFT JOIN (SELECT setdatabase, string_agg(setrole || setconfig::text, '') AS settings FROM pg_db_role_setting
            GROUP BY 1) s ON s.setdatabase = d.oid
        WHERE datname !~ '{DATABASE_NAME.format(run=RUN)}'
            AND shobj_description(d.oid, 'pg_database') IS DISTINCT FROM '{OURS}'),
    'tablespace', (SELECT jsonb_object_agg(spcname, (to_jsonb(t) - 'oid')::text) FROM pg_tablespace t),
    'right on a parameter', (SELECT jsonb_object_agg(parname, paracl::text) FROM pg_parameter_acl),
    'replication slot', (SELECT jsonb_object_agg(slot_name, '') FROM pg_replication_slots),
    'replication origin', (SELECT jsonb_object_agg(roname, '') FROM pg_replication_origin),
    'setting by ALTER SYSTEM', (SELECT jsonb_build_object('in postgresql.auto.conf',
        md5(pg_read_file('postgresql.auto.conf'))))
)
"""
OTHERWISE = "NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOREPLICATION CONNECTION LIMIT -1"
OIDS = "SELECT rolname, oid::text FROM pg_roles"
# What takes back something new of each kind; names of memberships and parameters come quoted.
UNDO_NEW = {
    "role": "DROP ROLE IF EXISTS {}",
    "setting of all roles": "ALTER ROLE ALL RESET ALL",
    "membership": "REVOKE {}",
    "tablespace": "DROP TABLESPACE {}",
    "replication slot": "SELECT pg_drop_replication_slot({})",
    "replication origin": "SELECT pg_replication_origin_drop({})",
}

# How many rows those catalogs have in all, and the sum of the transactions that wrote them: a change of any changes
# this, also by a transaction that began before the last look and ended after it.
CATALOGS = (
    *("pg_authid", "pg_auth_members", "pg_database", "pg_db_role_setting", "pg_parameter_acl", "pg_replication_origin"),
    *("pg_shdescription", "pg_tablespace"),
)
MARKS = f"""
SELECT json_build_array(
    count(*), sum(xmin::text::int8),
    (SELECT count(*) FROM pg_get_replication_slots()), md5(pg_read_file('postgresql.auto.conf')))
FROM ({" UNION ALL ".join(f"SELECT xmin FROM {name}" for name in CATALOGS)}) written
"""

State = dict[str, dict[str, str]]


class ServerWatch:
    """Compares the server with itself at the start of the run. ``alone`` says that no other process uses it.

    ``marks`` asks for the marks on its own connection.
    """

    def __init__(self, databases: Databases, *, alone: bool) -> None:
        self._databases = databases
        self._alone = alone
        self._connection = databases.maintenance()
        self.marks = Prepared(self._connection, "marks", MARKS)
        self._unchanged: Any = None
        self._before = self._read()
        self._oids = dict(databases.execute(OIDS))

    def _read(self) -> State:
        (found,) = self._databases.execute(QUERY)[0]
        return {kind: things or {} for kind, things in found.items()}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def traces(self, marks: Any) -> list[str]:
        """Return what is not as it was, in words; ``marks`` are those of now, what ``MARKS`` finds in any database."""
        if marks == self._unchanged:
            return []
        found = list(self._differences(self._read()))
        self._unchanged = None if found else marks
        return found

    def _differences(self, now: State) -> dict[str, tuple[str, str]]:
        """Return, in words, what was changed: its kind and its name."""
        found = {}
        for kind, things in now.items():
            before = self._before[kind]
            for name in [*before, *sorted(things.keys() - before.keys())]:
                if before.get(name) != things.get(name) and self._is_watched(kind, name):
                    what = "changed" if name in before and name in things else "new" if name in things else "gone"
                    found[f"the {kind} {name} {what}"] = (kind, name)
        return found

    def _is_watched(self, kind: str, name: str) -> bool:
        return self._alone or kind == "setting by ALTER SYSTEM" or (kind == "role" and name in API_ROLES)

    def mend(self) -> None:
        """Put back what can be, on a server of ours; raise ``ServerChangedError`` for the rest, once."""
        if self._databases.server.kind != "external":  # whose settings are its owner's
            self._rename_back()
            for kind, name in self._differences(self._read()).values():
                with suppress(psycopg.Error):  # what is left is said
                    self._mend(kind, name)
            self._databases.ensure_api_roles()
        if left := self._differences(self._read()):
            self._before = self._read()  # said once; what follows cannot be blamed for it
            raise ServerChangedError(
                f"A test changed the server that all tests share, which cannot be put back: {', '.join(sorted(left))}. "
                "Undo it in that test, or give it a server of its own."
            )

    def _rename_back(self) -> None:
        """Give each role its name back: a new one of that name would not have its rights."""
        was = {oid: name for name, oid in self._oids.items()}
        renamed = [(name, was[oid]) for name, oid in self._databases.execute(OIDS) if was.get(oid, name) != name]
        aside = [(name, f"renamed_{i}") for i, (name, _) in enumerate(renamed)]  # they may have swapped their names
        back = [(f"renamed_{i}", before) for i, (_, before) in enumerate(renamed)]
        for names in (*aside, *back):
            with suppress(psycopg.Error):
                self._databases.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(*map(sql.Identifier, names)))

    def _mend(self, kind: str, name: str) -> None:
        run: Callable[..., Any] = self._databases.execute
        is_new = name not in self._before[kind]
        if kind == "setting by ALTER SYSTEM":
            run("ALTER SYSTEM RESET ALL")
            run("SELECT pg_reload_conf()")
        elif kind == "database":
            self._databases.drop(Database(name, {})) if is_new else run(_sql("ALTER DATABASE {} RESET ALL", kind, name))
        elif is_new and kind in UNDO_NEW:
            run(_sql(UNDO_NEW[kind], kind, name))
        elif kind == "role":
            run(_sql("ALTER ROLE {} RESET ALL", kind, name))
            if rights := API_ROLES.get(name):
                rls = "" if "BYPASSRLS" in rights else "NOBYPASSRLS"
                run(_sql(f"ALTER ROLE {{}} {rights} {rls} {OTHERWISE} PASSWORD NULL", kind, name))
                run(_sql(f"COMMENT ON ROLE {{}} IS '{OURS}'", kind, name))
        elif kind == "membership":
            run(_sql("REVOKE {}", kind, name))
            run(_sql("GRANT {}", kind, name))


def _sql(text: str, kind: str, name: str) -> sql.Composed:
    match kind:
        case "membership":
            return sql.SQL(text).format(sql.SQL(name.replace(" TO ", " FROM ") if text.startswith("REVOKE") else name))
        case "replication slot" | "replication origin":
            return sql.SQL(text).format(sql.Literal(name))
    return sql.SQL(text).format(sql.Identifier(name))
