"""What is not fit for a rollout is refused before anything is written, with all that is wrong at once."""

import dataclasses
import secrets
from contextlib import ExitStack

import pytest
from psycopg import sql

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.rollout import objects, pooler, preflight
from session_fix.rollout import plan as plans
from session_fix.rollout.apply import apply

IDS = objects.revisions()
HEAD, BEFORE = IDS[-1], IDS[-2]

LOCKS_HELD = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def refused(state_of):
    """Return a function that checks that a plan is refused for a reason, and that nothing was changed."""

    def check(plan, database, reason, params=None, **options):
        before = state_of(database)
        with pytest.raises(RolloutRefusedError, match=reason) as error:
            apply(plan, database.params | (params or {}), **options)
        assert state_of(database) == before
        return str(error.value)

    return check


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"database": "another"}, "for database another"),
        ({"system_identifier": "1"}, "for system identifier 1"),
        ({"server_version": 130001}, "for server version 13"),
        ({"fingerprint": "0" * 16}, "not the one that the plan was made for"),
    ],
)
def test_another_database_than_the_plans_is_refused(at, planned, refused, change, reason):
    """The wrong variable is set: what was measured and reviewed does not hold there."""
    database = at(BEFORE)
    plan = planned(database)
    binding = dataclasses.replace(plan.binding, **change)
    refused(dataclasses.replace(plan, binding=binding), database, reason)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE ai_sessions ADD COLUMN title text",
        "ALTER TABLE ai_interactions ALTER COLUMN prompt DROP NOT NULL",
        "CREATE INDEX another ON ai_interactions (model_used)",
        "DROP INDEX ai_sessions_updated_at_idx",
        "GRANT SELECT ON ai_sessions TO anon",
    ],
)
def test_a_schema_that_changed_since_is_refused(at, planned, refused, change):
    """Somebody was at it between the review and the night; the object that differs is named."""
    database = at(BEFORE)
    plan = planned(database)
    database.rows(change)
    said = refused(plan, database, "not the one that the plan was made for")
    assert "should be" in said


def test_a_schema_that_changed_while_a_plan_was_half_done_is_refused(at, planned, applied, refused):
    """The fingerprint is of the beginning; half-way, the revision's own schema is what it is held against."""
    database = at(IDS[-4])
    plan = planned(database)
    half = dataclasses.replace(plan, target=IDS[-3], steps=plan.steps[:1])
    applied(half, database)
    database.rows("ALTER TABLE ai_sessions ADD COLUMN title text")
    refused(plan, database, rf"is not what {IDS[-3]} leaves:\n  column ai_sessions.title: text; should be: not there")
    database.rows("ALTER TABLE ai_sessions DROP COLUMN title")
    assert len(applied(plan, database).done) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE alembic_version SET version_num = 'zzz'", "zzz, which is no revision"),
        ("INSERT INTO alembic_version VALUES ('0001_baseline')", "holds 2 rows"),
        ("DELETE FROM alembic_version", "no version is noted"),
        ("DROP TABLE alembic_version", "no version is noted"),
        ("UPDATE alembic_version SET version_num = '0001_baseline'", "does not come past the version 0001_baseline"),
    ],
)
def test_a_version_that_is_not_the_plans_is_refused(at, planned, refused, change, reason):
    """Unknown, two, none, or another one: no step of the plan begins there."""
    database = at(BEFORE)
    plan = planned(database)
    database.rows(change)
    refused(plan, database, reason)


def test_a_hazard_has_to_be_allowed_by_name(at, planned, refused, applied):
    """Somebody has read what it means; a name that the plan does not have is a slip."""
    database = at(BEFORE)
    plan = planned(database)
    steps = (dataclasses.replace(plan.steps[0], hazards=("browsers-lose-access",)),)
    hazardous = dataclasses.replace(plan, steps=steps)
    refused(hazardous, database, f"browsers-lose-access, in {HEAD}")
    with pytest.raises(UsageError, match="no hazard rewrites"):
        applied(hazardous, database, allowed=["browsers-lose-access", "rewrites"])
    assert len(applied(hazardous, database, allowed=["browsers-lose-access"]).done) == 1


def test_a_step_without_a_lock_timeout_is_refused(at, planned, refused):
    """It would stand before everybody for as long as somebody reads."""
    database = at(BEFORE)
    refused(planned(database, lock_timeout_ms=0), database, "no lock_timeout")


@pytest.fixture
def role(empty, sql_on, session_fix_stack):
    """Return a function that makes a role, runs statements about it, and returns how it logs in; it goes afterwards."""
    run = sql_on(session_fix_stack.databases.server)
    name, password = f"migrator_{secrets.token_hex(4)}", secrets.token_hex(8)
    run(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))

    def make(*statements):
        for statement in statements:
            empty.rows(statement.format(role=name, database=empty.name))
        return {"user": name, "password": password}

    yield make
    empty.rows(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
    empty.rows(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    run(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


READS = ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",)
OWNS = (
    "ALTER TABLE ai_sessions OWNER TO {role}",
    "ALTER TABLE ai_interactions OWNER TO {role}",
    "ALTER TABLE alembic_version OWNER TO {role}",
    "ALTER FUNCTION ai_sessions_touch() OWNER TO {role}",
    "GRANT CREATE ON SCHEMA public TO {role}",
)


@pytest.mark.parametrize(
    ("statements", "reasons"),
    [
        (READS, ["not the rights of the owner of: function ai_sessions_touch", "table ai_sessions", "lacks: CREATE"]),
        (["GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"], ["table ai_interactions", "table alembic_version"]),
        ([], ["table ai_interactions", "CREATE on the schema public"]),
        (OWNS, ["lacks: CREATE on the database, or on a schema session_fix"]),
        ([*OWNS[1:], *READS], ["the owner of: table ai_sessions ("]),
    ],
)
def test_a_role_that_may_not_do_it_is_refused(at, planned, refused, role, statements, reasons):
    """Half of the steps done, and then 42501: all rights that lack are said before."""
    database = at(BEFORE)
    plan = planned(database)
    said = refused(plan, database, "the role", role(*statements))
    for reason in reasons:
        assert reason in said


def test_an_owner_who_is_no_superuser_may(at, planned, role):
    """Supabase's postgres is none."""
    database = at(BEFORE)
    params = role(*OWNS, "GRANT CREATE ON DATABASE {database} TO {role}")
    assert len(apply(planned(database), database.params | params).done) == 1


def test_a_member_of_the_owner_may(at, planned, role):
    """The tables belong to a group, the operator logs in by name."""
    database = at(BEFORE)
    owner = database.params["user"]
    params = role(f'GRANT "{owner}" TO {{role}}')
    assert len(apply(planned(database), database.params | params).done) == 1


def test_all_that_is_wrong_is_said_at_once(at, planned, refused, role):
    """Otherwise each correction brings up the next one, at night."""
    database = at(BEFORE)
    plan = planned(database)
    binding = dataclasses.replace(plan.binding, system_identifier="1")
    database.rows("UPDATE alembic_version SET version_num = 'zzz'")
    said = refused(dataclasses.replace(plan, binding=binding), database, "Nothing was changed", role(*READS))
    for reason in ("system identifier 1", "zzz", "the owner of"):
        assert reason in said


@pytest.mark.parametrize(
    ("host", "comment", "roles", "marks"),
    [
        ("db.abc.supabase.co", "", [], 1),
        ("aws-0.pooler.supabase.com", "", ["supabase_admin"], 2),
        ("10.0.0.4", "", ["supabase_admin", "authenticator"], 1),
        ("10.0.0.4", "", [], 0),
        ("127.0.0.1", "", ["supabase_admin"], 0),
        ("/run/postgresql", "", ["supabase_admin"], 0),
        ("/run/postgresql", "The Production database", [], 1),
    ],
)
def test_marks_of_production(host, comment, roles, marks):
    """What people lose sleep over is recognised; a local copy of it is free to try."""
    assert len(preflight.production_marks({"host": host}, comment, roles)) == marks


def test_production_is_called_by_its_name(at, planned, refused, applied):
    """Who types the name has looked at it; another name is as good as none."""
    database = at(BEFORE)
    database.rows(f"COMMENT ON DATABASE {database.name} IS 'production of the shop'")
    plan = planned(database)
    refused(plan, database, f"pass --database {database.name}")
    refused(plan, database, "--database other is not its name", typed="other")
    assert len(applied(plan, database, typed=database.name).done) == 1


@pytest.fixture
def pooled(empty, load_pooler):
    """Return a function that starts a pooler in transaction mode and returns parameters that lead through it."""
    with ExitStack() as cleanup:

        def start(**options):
            port = load_pooler(empty.params, cleanup, **options).port
            there = {"host": "127.0.0.1", "port": str(port), "sslmode": "disable", "gssencmode": "disable"}
            return empty.params | there

        yield start


@pytest.mark.parametrize("sessions", [1, 2, 8])
def test_a_pooler_in_transaction_mode_is_refused(at, planned, refused, pooled, monkeypatch, sessions):
    """A lock that was taken through it stays with a session that is somebody else's by now."""
    monkeypatch.setattr(pooler, "ANSWER_S", 0.5)
    database = at(BEFORE)
    refused(planned(database), database, "a pooler in transaction mode is in between", pooled(keep=sessions))
    assert database.rows(LOCKS_HELD) == [(0,)]


def test_a_direct_way_shows_no_sign_of_a_pooler(empty):
    """A check that always fails would be switched off."""
    assert pooler.signs(empty.params) == []


def test_the_port_of_supabases_transaction_mode_is_a_sign(monkeypatch):
    """There, even a probe that happens to find nothing is no reason to go on."""
    monkeypatch.setattr(pooler, "signs", lambda _params: [])
    checks = {port: [check.passes for check in preflight.of_way({"port": port})] for port in ("6543", "5432")}
    assert checks == {"6543": [False], "5432": [True]}


def test_a_plan_that_was_changed_is_refused(at, planned):
    """Between the review and the night, a line in the file."""
    with pytest.raises(UsageError, match="changed after it was made"):
        plans.read(plans.written(planned(at(BEFORE))).replace("ENABLE ROW", "DISABLE ROW"))
