"""Row level security cell by cell: what each role may do with its own rows, with another's, with none.

A cell is one statement of one role in a subtransaction that is rolled back; its outcome is the number of rows, "ok" for
a TRUNCATE, or an SQLSTATE. Every role comes with the same claims, those of Alice: the role decides, not what it says.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from session_fix import folders

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2

ROLES = ("anon", "authenticated", "service_role")
BACKEND = "backend"  # a login in service_role: what it may, it may by policies, for BYPASSRLS is not inherited
TABLES = ("ai_sessions", "ai_interactions")
# Whose session it is, and so whose interaction. Of the missing one there is no row; "null" has no user_id.
OWNERS = {"own": "'alice'", "other's": "'bob'", "missing": "'carol'", "null": "NULL"}
TARGETS = tuple(OWNERS)
UPSERTS = ("upsert DO NOTHING", "upsert DO UPDATE")
EIGHT = ("SELECT", "INSERT", "INSERT RETURNING", *UPSERTS, "UPDATE", "DELETE", "TRUNCATE")
# The eight, and what else tells one policy from another.
OPERATIONS = {
    "ai_sessions": {
        "SELECT": "SELECT FROM public.ai_sessions WHERE id = {session}",
        "INSERT": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({new}, {owner})",
        "INSERT RETURNING": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({new}, {owner}) RETURNING id",
        "upsert DO NOTHING": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({session}, 'alice') "
        "ON CONFLICT (id) DO NOTHING",
        "upsert DO UPDATE": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({session}, 'alice') "
        "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id",
        "UPDATE": "UPDATE public.ai_sessions SET updated_at = now() WHERE id = {session}",
        "DELETE": "DELETE FROM public.ai_sessions WHERE id = {session}",
        "TRUNCATE": "TRUNCATE public.ai_sessions",
        "INSERT a taken id": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({session}, 'alice')",
        "DO NOTHING anywhere": "INSERT INTO public.ai_sessions (id, user_id) VALUES ({session}, 'alice') "
        "ON CONFLICT DO NOTHING",
        "UPDATE user_id": "UPDATE public.ai_sessions SET user_id = {owner} WHERE id = {own_session}",
        "DELETE an empty one": "DELETE FROM public.ai_sessions WHERE id = {empty}",
        "SELECT all": "SELECT FROM public.ai_sessions",
        "UPDATE all": "UPDATE public.ai_sessions SET updated_at = now()",
        "DELETE all": "DELETE FROM public.ai_sessions",
    },
    "ai_interactions": {
        "SELECT": "SELECT FROM public.ai_interactions WHERE session_id = {session}",
        "INSERT": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({new}, {session}, 'p', 'r')",
        "INSERT RETURNING": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({new}, {session}, 'p', 'r') RETURNING id",
        "upsert DO NOTHING": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({interaction}, {own_session}, 'p', 'r') ON CONFLICT (id) DO NOTHING",
        "upsert DO UPDATE": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({interaction}, {own_session}, 'p', 'r') ON CONFLICT (id) "
        "DO UPDATE SET session_id = excluded.session_id",
        "UPDATE": "UPDATE public.ai_interactions SET response = 'x' WHERE id = {interaction}",
        "DELETE": "DELETE FROM public.ai_interactions WHERE id = {interaction}",
        "TRUNCATE": "TRUNCATE public.ai_interactions",
        "INSERT a taken id": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({interaction}, {own_session}, 'p', 'r')",
        "DO NOTHING anywhere": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({interaction}, {own_session}, 'p', 'r') ON CONFLICT DO NOTHING",
        "INSERT no session": "INSERT INTO public.ai_interactions (id, session_id, prompt, response) "
        "VALUES ({interaction}, NULL, 'p', 'r')",
        "UPDATE session_id": "UPDATE public.ai_interactions SET session_id = {session} WHERE id = {own_interaction}",
        "SELECT all": "SELECT FROM public.ai_interactions",
        "UPDATE all": "UPDATE public.ai_interactions SET response = 'x'",
        "DELETE all": "DELETE FROM public.ai_interactions",
    },
}
# One subtransaction a statement, in the server: as savepoints from here, a table of cells would take a second.
OUTCOMES = """
CREATE FUNCTION pg_temp.outcomes(roles text[], statements text[], claims text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE number int8; outcome text;
BEGIN
    FOR i IN 1 .. cardinality(statements) LOOP
        BEGIN
            PERFORM set_config('request.jwt.claims', claims, true);
            EXECUTE format('SET LOCAL ROLE %I', roles[i]);
            EXECUTE statements[i];
            GET DIAGNOSTICS number = ROW_COUNT;
            RAISE EXCEPTION USING ERRCODE = 'UNDO0', MESSAGE = number;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS outcome = MESSAGE_TEXT;
            outcome := CASE WHEN SQLSTATE <> 'UNDO0' THEN SQLSTATE
                WHEN statements[i] LIKE 'TRUNCATE%' THEN 'ok' ELSE outcome END;
        END;
        RETURN NEXT outcome;
    END LOOP;
END $$
"""
ROWS = """
INSERT INTO public.ai_sessions (id, user_id) VALUES
    ({own_session}, 'alice'), ({other_session}, 'bob'), ({null_session}, NULL),
    ({own_empty}, 'alice'), ({other_empty}, 'bob'), ({null_empty}, NULL);
INSERT INTO public.ai_interactions (id, session_id, prompt, response) VALUES
    ({own_interaction}, {own_session}, 'a', 'b'), ({other_interaction}, {other_session}, 'a', 'b'),
    ({null_interaction}, {null_session}, 'a', 'b')
"""

# Ways around the tables: views that read them, and functions with their owner's rights that name them.
DOORS = """
SELECT DISTINCT t.relname, v.oid::regclass::text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
    JOIN pg_class t ON t.oid = d.refobjid
WHERE d.classid = 'pg_rewrite'::regclass AND t.relname = ANY(%(tables)s) AND v.oid <> t.oid
UNION SELECT t.name, format('%%s()', p.oid::regproc)
FROM pg_proc p, unnest(%(tables)s) t(name)
WHERE p.prosecdef AND p.pronargs = 0 AND p.pronamespace = 'public'::regnamespace
    AND p.prosrc LIKE '%%' || t.name || '%%'
"""
T = "public.ai_sessions, public.ai_interactions"
OFF = ";".join(f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY" for table in TABLES)
BARE = ";".join(f"DROP POLICY {table}_service_role ON public.{table}" for table in TABLES)
ALL = f"GRANT ALL ON {T} TO anon, authenticated, service_role"


def _policies(text):
    return ";".join(f"CREATE POLICY anybody ON public.{table} {text}" for table in TABLES)


def _option(name):
    """Return a script of the owner policies, to run in a transaction that is open already."""
    script = folders.bundled("migrations") / "options" / "owner_policies" / f"{name}.sql"
    return re.sub(r"^(BEGIN|COMMIT);$", "", script.read_text(encoding="utf-8"), flags=re.MULTILINE)


# What is done to a migrated database before the cells of a section are measured. Grants and policies hold by themselves
# each: so that one of them can fail, and so that a test sees it when either does.
LAYERS = {"as shipped": "", "grants alone": OFF, "policies alone": ALL}
SECTIONS = {
    **{("service", layer): change for layer, change in LAYERS.items()},
    **{("owner", layer): f"{_option('up')};{change}" for layer, change in LAYERS.items()},
    # What the policy of the interactions holds back by itself, should somebody open the sessions.
    ("owner", "sessions open"): f"{_option('up')};{ALL};ALTER TABLE public.ai_sessions DISABLE ROW LEVEL SECURITY",
    ("mistakes", "row security off"): f"{BARE};{OFF};{ALL}",
    ("mistakes", "no policy"): f"{BARE};{ALL}",
    ("mistakes", "USING (true)"): f"{BARE};{ALL};{_policies('USING (true)')}",
    ("mistakes", "INSERT only"): f"{BARE};{ALL};{_policies('FOR INSERT WITH CHECK (true)')}",
}


def _numbered(number):
    return f"'00000000-0000-4000-8000-{number:012d}'::uuid"


def _names(number, kind):
    return {f"{owner}_{kind}": _numbered(number + n) for n, owner in enumerate(("own", "other", "missing", "null"), 1)}


NAMES = _names(0, "session") | _names(10, "empty") | _names(20, "interaction")


def _statement(table, operation, target):
    if operation.startswith("through "):
        return f"SELECT FROM {operation.removeprefix('through ')}"
    owner = target.removesuffix("'s")
    of_target = {kind: NAMES[f"{owner}_{kind}"] for kind in ("session", "empty", "interaction")}
    return OPERATIONS[table][operation].format(**NAMES, **of_target, owner=OWNERS[target], new=_numbered(99))


@dataclass(frozen=True)
class Cells:
    """Outcomes by (role, table, operation, target). As text: a line an operation, a column a role and target."""

    outcomes: dict

    @property
    def of_the_eight(self):
        """The cells that each policy set has to answer for."""
        return {cell for cell in self.outcomes if cell[0] in ROLES and cell[2] in EIGHT}

    def different(self, other):
        """Return the other's cells that are not the same, with both outcomes. Where no door is, nobody comes in."""
        pairs = {cell: (self.outcomes.get(cell, "42501"), outcome) for cell, outcome in other.outcomes.items()}
        return {cell: pair for cell, pair in pairs.items() if len(set(pair)) > 1}

    def lines(self):
        """Yield the lines of the text."""
        for table in TABLES:
            yield " | ".join([f"{table:<19}", *(f"{role:<29}" for role in ROLES)])
            yield " | ".join([" " * 19, *[" ".join(f"{target:<7}" for target in TARGETS)] * len(ROLES)])
            for operation in OPERATIONS[table]:
                rows = [[self.outcomes[role, table, operation, target] for target in TARGETS] for role in ROLES]
                yield " | ".join([f"{operation:<19}", *(" ".join(f"{one:<7}" for one in row) for row in rows)])

    def __str__(self):
        return "\n".join(line.rstrip() for line in self.lines())


def _measured(connection, only=("", "")):
    """Return the cells, or those of one role and table ``only``."""
    doors = connection.execute(DOORS, {"tables": list(TABLES)}).fetchall()
    kinds = [*((table, one) for table in TABLES for one in OPERATIONS[table])]
    cells = [(role, *kind, target) for role, kind, target in product((*ROLES, BACKEND), kinds, TARGETS)]
    cells += [(role, table, f"through {door}", "own") for role, (table, door) in product((*ROLES, BACKEND), doors)]
    cells = [cell for cell in cells if not any(only) or cell[:2] == only]
    connection.execute(ROWS.format(**NAMES))
    if any(cell[0] == BACKEND for cell in cells):
        # Roles are the server's: another process that measures has one of this name until its transaction ends.
        connection.execute(f"SET LOCAL lock_timeout = 0; CREATE ROLE {BACKEND} IN ROLE service_role")
    connection.execute(OUTCOMES)
    arguments = ([cell[0] for cell in cells], [_statement(*cell[1:]) for cell in cells], '{"sub": "alice"}')
    found = connection.execute("SELECT * FROM pg_temp.outcomes(%s, %s, %s)", arguments)
    return Cells(dict(zip(cells, (outcome for (outcome,) in found), strict=True)))


@pytest.fixture
def prepared(database):
    """Return a function that yields a connection with a section's change made, in a transaction that is rolled back."""

    @contextmanager
    def prepare(policy_set, layer, mutant=""):
        with database.connect() as connection, connection.transaction(force_rollback=True):
            for change in filter(None, (SECTIONS[policy_set, layer], mutant)):
                connection.execute(change)
            yield connection

    return prepare


@pytest.fixture
def measured(prepared):
    """Return a function that returns the cells of a section, with a mutant's change; of one role and table ``only``."""

    def measure(policy_set, layer, mutant="", *, only=("", "")):
        with prepared(policy_set, layer, mutant) as connection:
            return _measured(connection, only)

    return measure


@pytest.fixture
def expected():
    """Return a function that returns the text of a section of a policy set's file."""

    def read(policy_set, layer):
        text = (Path(__file__).parent / "cells" / f"{policy_set}.txt").read_text(encoding="utf-8")
        sections = dict(re.findall(r"^\[(.+)\]\n(?:#.*\n)*((?:.+\n)+)", text, re.MULTILINE))
        return sections[layer].rstrip("\n")

    return read
