"""What a real database has to look like for a finding to be made of it: each done to a private one, by SQL."""

import psycopg
import pytest
from psycopg import sql

from session_fix.rollout.wanted import FOREIGN_KEY, TABLES

KEY = FOREIGN_KEY.name
CHILD, PARENT = "ALTER TABLE ai_interactions", "ALTER TABLE ai_sessions"
REFERENCE = "FOREIGN KEY (session_id) REFERENCES ai_sessions"
FINITE, TOUCH = "ai_sessions.ai_sessions_times_finite", "ai_sessions.ai_sessions_touch"
CHECKS = [f"ai_interactions.ai_interactions_{what}" for what in ("time_finite", "tokens_not_negative")]
EARLIER = "CONSTRAINT ai_interactions_time_finite CHECK (created_at < 'infinity')"
NO_POLICY = "DROP POLICY ai_sessions_service_role ON ai_sessions"
COLUMN_TAKES = f"schema/trigger-missing/{TOUCH} schema/index-missing/updated_at schema/check-missing/{FINITE}"
OFF = "access/row-security-off"
VERSION_18 = 180_000

SCHEMA = [
    (f"{CHILD} DROP CONSTRAINT {KEY}", "schema/foreign-key-missing"),
    (f"{CHILD} DROP CONSTRAINT {KEY}, ADD CONSTRAINT again {REFERENCE} NOT VALID", "schema/not-valid/again"),
    (f"{PARENT} ADD CONSTRAINT named CHECK (user_id <> '') NOT VALID", "schema/not-valid/named"),
    (f"{CHILD} ALTER CONSTRAINT {KEY} DEFERRABLE", "schema/foreign-key-deferrable"),
    (
        f"{PARENT} DROP CONSTRAINT ai_sessions_pkey CASCADE",
        "schema/primary-key/ai_sessions schema/foreign-key-missing",
    ),
    (f"{CHILD} DISABLE TRIGGER ALL", f"schema/trigger-disabled/ai_interactions/{KEY}"),
    (
        f"{PARENT} DISABLE TRIGGER ALL",
        f"schema/trigger-disabled/ai_sessions/{KEY} schema/trigger-disabled/ai_sessions/ai_sessions_touch",
    ),
    (
        f"{PARENT} DROP COLUMN updated_at CASCADE",
        f"schema/column-missing/ai_sessions.updated_at {COLUMN_TAKES}",
    ),
    (f"{PARENT} DROP CONSTRAINT ai_sessions_times_finite", f"schema/check-missing/{FINITE}"),
    (
        f"{CHILD} DROP CONSTRAINT ai_interactions_time_finite; {CHILD} ADD {EARLIER}",
        f"schema/check-differs/{CHECKS[0]}",
    ),
    ("DROP TRIGGER ai_sessions_touch ON ai_sessions", f"schema/trigger-missing/{TOUCH}"),
    (
        "CREATE OR REPLACE FUNCTION ai_sessions_touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        f"schema/trigger-differs/{TOUCH}",
    ),
    ("DROP INDEX ai_interactions_session_id_created_at_idx", "schema/index-missing"),
    ("DROP INDEX ai_sessions_updated_at_idx", "schema/index-missing/updated_at"),
    (
        "DROP INDEX ai_interactions_session_id_created_at_idx; CREATE INDEX other ON ai_interactions (session_id)",
        "",
    ),
    (f"{CHILD} ALTER created_at TYPE timestamp", "schema/type/ai_interactions.created_at"),
    (f"{PARENT} ADD own int NOT NULL", "schema/column-extra/ai_sessions.own"),
    (f"{CHILD} RENAME TO renamed", "schema/table-missing/ai_interactions version/untrue"),
    (
        "DROP TABLE ai_interactions; CREATE VIEW ai_interactions AS SELECT 1 AS id",
        "schema/not-a-table/ai_interactions access/right-missing/service_role/ai_interactions",
    ),
    (
        "UPDATE alembic_version SET version_num = '0001_baseline'",
        f"version/behind schema/in-the-way/{FINITE} {' '.join(f'schema/in-the-way/{check}' for check in CHECKS)}",
    ),
    ("UPDATE alembic_version SET version_num = 'zzz'", "version/unknown"),
    ("DELETE FROM alembic_version", "version/empty"),
    ("INSERT INTO alembic_version VALUES ('zzz')", "version/several version/unknown"),
    ("DROP TABLE alembic_version", "version/none"),
]
ACCESS = [
    ("REVOKE INSERT ON ai_sessions FROM service_role", "access/right-missing/service_role/ai_sessions"),
    ("GRANT TRUNCATE ON ai_sessions TO service_role", "access/right-extra/service_role/ai_sessions"),
    ("GRANT SELECT (prompt) ON ai_interactions TO anon", "access/right-extra/anon/ai_interactions"),
    (
        f"GRANT SELECT ON ai_sessions TO PUBLIC; {PARENT} DISABLE ROW LEVEL SECURITY; {NO_POLICY}",
        f"access/right-extra/anon/ai_sessions access/right-extra/authenticated/ai_sessions {OFF}/ai_sessions",
    ),
    (NO_POLICY, "access/policy-missing/ai_sessions"),
    (
        f"{PARENT} DISABLE ROW LEVEL SECURITY",
        f"{OFF}/ai_sessions access/policies-idle/ai_sessions",
    ),
    ("REVOKE USAGE ON SCHEMA public FROM service_role, PUBLIC", "access/no-usage"),
    (
        "CREATE POLICY every ON ai_sessions TO anon USING (true)",
        "access/policy-open/ai_sessions/every",
    ),
    (
        "CREATE POLICY every ON ai_sessions FOR INSERT WITH CHECK (1 = 1)",
        "access/policy-open/ai_sessions/every",
    ),
    ("CREATE POLICY own ON ai_sessions USING (user_id = current_user)", ""),
]
SETTINGS = [
    ("app.jwt_secret = 'canary'", "access/secret-setting"),
    ("app.jwt_exp = '3600'", ""),
    ("password_encryption = 'md5'", ""),
    ("session_replication_role = replica", "server/replication-role"),
    ("default_transaction_read_only = on", "server/read-only"),
    ("TimeZone = 'Europe/Berlin'", "server/time-zone"),
    ("timezone = 'Etc/UTC'", ""),
]


@pytest.mark.parametrize(("statement", "ids"), SCHEMA + ACCESS, ids=[one[1] for one in SCHEMA + ACCESS])
def test_it_is_found_in_a_real_database(database, found, statement, ids):
    """The catalogs are read as PostgreSQL writes them, whatever the pure half is given by its tests."""
    database.rows(statement)
    assert set(found()) == set(ids.split())


@pytest.mark.parametrize(("setting", "ids"), SETTINGS)
def test_settings_that_matter_are_named_and_not_shown(database, audited, setting, ids):
    """A role that can only read can read them all; the report must not hand their values on."""
    with database.connect() as connection:
        connection.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
        connection.commit()
    told = audited()
    assert {one.id for one in told.findings if one.severity != "info"} == set(ids.split())
    assert "canary" not in repr(told)


@pytest.mark.parametrize("api_role", ["service_role", "anon"])
def test_the_time_zone_of_a_role_is_told(database, audited, session_fix_stack, api_role):
    """The data API acts as the role, settings and all; what was written without an offset is then hours away."""
    role, place = sql.Identifier(api_role), sql.Identifier(database.name)
    statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET TimeZone TO 'Asia/Tokyo'").format(role, place)
    session_fix_stack.databases.execute(statement)
    told = {one.id: one for one in audited().findings}
    assert f"Asia/Tokyo for the role {api_role}" in told["server/time-zone"].what


def test_the_time_zone_that_the_audit_brought_along_is_not_the_databases(audited, monkeypatch):
    """An operator's own settings say nothing of the server."""
    monkeypatch.setenv("PGTZ", "America/New_York")
    assert audited().facts.time_zones == {}


@pytest.mark.parametrize(
    ("statement", "ids"),
    [
        (f"{CHILD} ALTER CONSTRAINT {KEY} NOT ENFORCED", {f"schema/not-enforced/{KEY}"}),
        (
            f"{PARENT} ADD CONSTRAINT given NOT NULL user_id NOT VALID",
            {"schema/not-valid/given", "schema/not-null/ai_sessions.user_id"},
        ),
    ],
    ids=["not enforced", "not null and not valid"],
)
def test_what_came_with_postgresql_18_is_found(database, found, statement, ids):
    """A constraint that is there and not enforced looks like any other in most tools."""
    with database.connect() as connection:
        if connection.info.server_version < VERSION_18:
            pytest.skip("needs PostgreSQL 18")
    database.rows(statement)
    assert set(found()) == ids


def test_an_index_that_failed_to_build_is_found(database, found):
    """CREATE INDEX IF NOT EXISTS reports success over it."""
    database.rows("INSERT INTO ai_sessions SELECT gen_random_uuid(), 'u', now(), now() FROM generate_series(1, 2)")
    with database.connect(autocommit=True) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY one_each ON ai_sessions (user_id)")
    assert set(found()) == {"schema/index-invalid/one_each"}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_references_ours_is_named(database, audited, table):
    """Whoever repairs has to know of it."""
    database.rows(f"CREATE SCHEMA app; CREATE TABLE app.notes (id uuid REFERENCES public.{table})")
    assert audited().facts.referencing == ("app.notes",)


def test_a_database_without_the_schema_can_be_audited(database, found):
    """Some keep everything in a schema of their own and drop public."""
    database.rows("DROP SCHEMA public CASCADE")
    assert {"version/none", *(f"schema/table-missing/{name}" for name in TABLES)} <= set(found())


def test_an_audit_without_the_right_to_the_schema_comes_to_an_end(database, audited, role):
    """The catalogs can be read all the same."""
    database.rows("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    told = audited(role("GRANT SELECT ON ai_sessions, ai_interactions TO {role}"))
    assert told.facts.has_versions
    assert any(one.what == "the rows of ai_sessions" for one in told.facts.unseen)
