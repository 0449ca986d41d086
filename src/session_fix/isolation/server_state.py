"""What a test may change for the whole server, beside its own database: seen after each test, and put back.

A server that several workers share shows each of them what the others' tests are doing just now. There, only what no
test may do without the harness noticing is looked at, the data API's roles and the server's configuration, and a role
or database that a test leaves stays until the run ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from session_fix.databases import API_ROLES, DATABASE_NAME, OURS, ROLE_NAME, RUN, Database, Databases
from session_fix.errors import ServerChangedError

QUERY = f"""
SELECT jsonb_build_object(
    'role', (SELECT jsonb_object_agg(a.rolname, md5((to_jsonb(a) - 'oid')::text || coalesce(s.settings, '')))
        FROM pg_authid a
        LEFT JOIN (SELECT setrole, string_agg(setconfig::text, '') AS settings FROM pg_db_role_setting
            WHERE setdatabase = 0 GROUP BY 1) s ON s.setrole = a.oid
        WHERE rolname !~ '{ROLE_NAME.format(run=RUN)}'),
    'membership', (SELECT jsonb_object_agg(m.member::regrole || ' in ' || m.roleid::regrole, '')
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname !~ '{ROLE_NAME.format(run=RUN)}'),
    'database', (SELECT jsonb_object_agg(datname, '') FROM pg_database
        WHERE datname !~ '{DATABASE_NAME.format(run=RUN)}'
            AND shobj_description(oid, 'pg_database') IS DISTINCT FROM '{OURS}'),
    'tablespace', (SELECT jsonb_object_agg(spcname, (to_jsonb(t) - 'oid')::text) FROM pg_tablespace t),
    'right on a parameter', (SELECT jsonb_object_agg(parname, paracl::text) FROM pg_parameter_acl),
    'replication slot', (SELECT jsonb_object_agg(slot_name, '') FROM pg_replication_slots),
    'setting by ALTER SYSTEM', (SELECT jsonb_build_object('in postgresql.auto.conf',
        md5(pg_read_file('postgresql.auto.conf'))))
)
"""
OTHERWISE = "NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOREPLICATION CONNECTION LIMIT -1 VALID UNTIL 'infinity'"
OIDS = "SELECT rolname, oid::text FROM pg_roles"

State = dict[str, dict[str, str]]


class ServerWatch:
    """Compares the server with itself at the start of the run. ``alone`` says that no other process uses it."""

    def __init__(self, databases: Databases, *, alone: bool) -> None:
        self._databases = databases
        self._alone = alone
        self._before = self._read()
        self._oids = dict(databases.execute(OIDS))

    def _read(self) -> State:
        (found,) = self._databases.execute(QUERY)[0]
        return {kind: things or {} for kind, things in found.items()}

    def traces(self) -> list[str]:
        """Return what is not as it was, in words."""
        return list(self._differences(self._read()))

    def _differences(self, now: State) -> dict[str, tuple[str, str]]:
        """Return, in words, what was changed: its kind and its name."""
        found = {}
        for kind, things in now.items():
            before = self._before[kind]
            for name in before.keys() | things.keys():
                if before.get(name) != things.get(name) and self._is_watched(kind, name):
                    what = "changed" if name in before and name in things else "new" if name in things else "gone"
                    found[f"the {kind} {name} {what}"] = (kind, name)
        return found

    def _is_watched(self, kind: str, name: str) -> bool:
        return self._alone or kind == "setting by ALTER SYSTEM" or (kind == "role" and name in API_ROLES)

    def mend(self) -> None:
        """Put back what can be; raise ``ServerChangedError`` for the rest, once."""
        self._rename_back()
        for kind, name in self._differences(self._read()).values():
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
        for name, oid in self._databases.execute(OIDS):
            was = next((known for known, its in self._oids.items() if its == oid), name)
            if was != name:
                names = (sql.Identifier(name), sql.Identifier(was))
                self._databases.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(*names))

    def _mend(self, kind: str, name: str) -> None:
        run: Callable[..., Any] = self._databases.execute
        identifier = sql.Identifier(name)
        try:
            match kind:
                case "setting by ALTER SYSTEM":
                    run("ALTER SYSTEM RESET ALL")
                    run("SELECT pg_reload_conf()")
                case "role" if name not in self._before["role"]:
                    run(sql.SQL("DROP ROLE IF EXISTS {}").format(identifier))
                case "role":
                    run(sql.SQL("ALTER ROLE {} RESET ALL").format(identifier))
                    if name in API_ROLES:
                        run(sql.SQL(f"ALTER ROLE {{}} {API_ROLES[name]} {OTHERWISE}").format(identifier))
                case "database" if name not in self._before["database"]:
                    self._databases.drop(Database(name, {}))
                case "replication slot" if name not in self._before["replication slot"]:
                    run("SELECT pg_drop_replication_slot(%s)", name)
        except psycopg.Error:
            pass  # what is left is said
