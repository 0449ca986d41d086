"""Each check of a verification is broken in turn: exactly that is found, and nothing else."""

import pytest
from psycopg import sql

from session_fix import schema
from session_fix.rollout import lock, objects, status, verify

KEY = "ai_interactions_session_id_fkey"
ADD_KEY = f"ADD CONSTRAINT {KEY} FOREIGN KEY (session_id) REFERENCES ai_sessions (id)"
ORPHAN = (
    "INSERT INTO ai_interactions (id, session_id, prompt, response) "
    "VALUES (gen_random_uuid(), gen_random_uuid(), '', '')"
)
RAISES = "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'"
MUTANTS = [
    (["UPDATE alembic_version SET version_num = 'zzz'"], {"version/unknown"}),
    (["INSERT INTO alembic_version VALUES ('0001_baseline')"], {"version/several"}),
    (["DELETE FROM alembic_version"], {"version/empty"}),
    (["DROP TABLE alembic_version"], {"version/none"}),
    (["DROP TABLE ai_interactions, ai_sessions"], {"table/missing/ai_sessions", "table/missing/ai_interactions"}),
    (["DROP TABLE ai_interactions"], {"table/missing/ai_interactions"}),
    (["ALTER TABLE ai_sessions ALTER user_id TYPE varchar(50)"], {"column/differs/ai_sessions.user_id"}),
    (["ALTER TABLE ai_sessions ALTER created_at DROP DEFAULT"], {"column/differs/ai_sessions.created_at"}),
    (["ALTER TABLE ai_interactions DROP tokens_used"], None),
    ([f"ALTER TABLE ai_interactions DROP CONSTRAINT {KEY}"], {f"constraint/missing/ai_interactions.{KEY}"}),
    (
        [f"ALTER TABLE ai_interactions DROP CONSTRAINT {KEY}, {ADD_KEY} NOT VALID"],
        {f"constraint/not-valid/ai_interactions.{KEY}"},
    ),
    (
        [f"ALTER TABLE ai_interactions DROP CONSTRAINT {KEY}, {ADD_KEY} ON DELETE CASCADE"],
        {f"constraint/differs/ai_interactions.{KEY}"},
    ),
    (["SET session_replication_role = replica", ORPHAN], {"rows/orphans"}),
    (["ALTER TABLE ai_sessions DISABLE TRIGGER ai_sessions_touch"], {"trigger/disabled/ai_sessions.ai_sessions_touch"}),
    (
        ["ALTER TABLE ai_interactions DISABLE TRIGGER ALL"],
        {f"trigger/disabled/ai_interactions.{KEY}"},
    ),
    (
        ["UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ai_sessions_updated_at_idx'::regclass"],
        {"index/invalid/ai_sessions.ai_sessions_updated_at_idx"},
    ),
    (["DROP INDEX ai_sessions_updated_at_idx"], {"index/missing/ai_sessions.ai_sessions_updated_at_idx"}),
    (["ALTER TABLE ai_sessions DISABLE ROW LEVEL SECURITY"], {"table/differs/ai_sessions"}),
    (["DROP POLICY ai_sessions_service_role ON ai_sessions"], {"policy/missing/ai_sessions.ai_sessions_service_role"}),
    (["CREATE POLICY open ON ai_sessions USING (true)"], {"policy/extra/ai_sessions.open"}),
    (["GRANT SELECT (prompt) ON ai_interactions TO anon"], {"rights/too-many/anon/ai_interactions"}),
    (
        ["GRANT INSERT ON ai_sessions TO PUBLIC"],
        {
            *("rights/too-many/anon/ai_sessions", "rights/too-many/authenticated/ai_sessions"),
            "grant/extra/ai_sessions.PUBLIC",
        },
    ),
    (
        ["GRANT SELECT ON ai_sessions TO authenticated", "CREATE POLICY open ON ai_sessions USING (true)"],
        {"policy/extra/ai_sessions.open", "rights/too-many/authenticated/ai_sessions", "probe/authenticated"},
    ),
    (
        ["REVOKE DELETE ON ai_sessions FROM service_role"],
        {"rights/missing/service_role/ai_sessions", "probe/service_role"},
    ),
    (["REVOKE USAGE ON SCHEMA public FROM service_role, PUBLIC"], {"probe/service_role"}),
    (["GRANT TRUNCATE ON ai_sessions TO service_role"], {"rights/too-many/service_role/ai_sessions"}),
    (
        [RAISES, "CREATE TRIGGER t BEFORE UPDATE ON ai_interactions FOR EACH ROW EXECUTE FUNCTION stop()"],
        {"probe/service_role"},
    ),
]


def found_in(database, **options):
    """Return what a verification finds, warnings left out."""
    verified = verify.judge(verify.look(database.params, timeout_s=60, **options))
    return verified, {one.id for one in verified.findings if one.severity == "problem"}


def broken(database, statements):
    """Break the database; in one session, for a setting to last."""
    with database.connect() as connection:
        connection.execute("SET allow_system_table_mods = on")
        for statement in statements:
            connection.execute(statement)


def test_what_the_migrations_leave_passes(database):
    """A check that always finds something is one that nobody reads; and all was looked at."""
    verified, found = found_in(database)
    assert (verified.verdict, found, verified.findings) == ("pass", set(), ())
    assert (verified.seen.orphans, len(verified.seen.probes)) == (0, 24)
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(0,)], "what was tried was rolled back"


@pytest.mark.parametrize(("statements", "ids"), MUTANTS, ids=[one[-1] for one, _ in MUTANTS])
def test_what_is_broken_is_found_and_nothing_else(database, statements, ids):
    """Each check has a way to fail."""
    broken(database, statements)
    verified, found = found_in(database)
    assert verified.verdict == "fail"
    if ids is None:  # a column takes its constraint along
        ids = {"column/missing/ai_interactions.tokens_used"} | {
            f"constraint/missing/ai_interactions.{name}" for name in ("ai_interactions_tokens_not_negative",)
        }
    assert found == ids


def test_a_key_that_is_not_enforced_is_found(database):
    """From version 18 on, a key can be there and check nothing."""
    with database.connect() as connection:
        if connection.info.server_version < 180_000:
            pytest.skip("NOT ENFORCED came with version 18")
    broken(database, [f"ALTER TABLE ai_interactions DROP CONSTRAINT {KEY}, {ADD_KEY} NOT ENFORCED"])
    assert found_in(database)[1] == {f"constraint/not-enforced/ai_interactions.{KEY}"}


def test_an_index_and_a_column_of_ones_own_are_only_mentioned(database):
    """Operators add such things; they break no promise."""
    broken(database, ["CREATE INDEX own ON ai_sessions (user_id)", "ALTER TABLE ai_sessions ADD note text"])
    verified, found = found_in(database)
    assert (verified.verdict, found) == ("pass", set())
    assert {one.id for one in verified.findings} == {"index/extra/ai_sessions.own", "column/extra/ai_sessions.note"}


def test_membership_counts_as_much_as_a_grant(database, role, sql_on, session_fix_stack):
    """No grant names anon here; it may read all the same."""
    group = role("GRANT SELECT ON ai_sessions TO {role}")["user"]
    run = sql_on(session_fix_stack.databases.server)
    run(sql.SQL("GRANT {} TO anon").format(sql.Identifier(group)))
    try:
        assert found_in(database)[1] == {"rights/too-many/anon/ai_sessions"}
    finally:
        run(sql.SQL("REVOKE {} FROM anon").format(sql.Identifier(group)))


def test_who_cannot_try_has_not_seen_everything(database, role):
    """Not having looked is not having found nothing."""
    reader = role("GRANT SELECT ON alembic_version TO {role}")
    verified = verify.judge(verify.look(database.params | reader, timeout_s=60))
    assert verified.verdict == "inconclusive"
    assert {one.what for one in verified.seen.unseen} == {"orphans", "what the data API's roles can really do"}


@pytest.fixture
def at(session_fix_stack):
    """Return a function that makes a database at a revision."""
    databases = session_fix_stack.databases
    databases.template()
    made = []

    def make(revision):
        made.append(databases.empty())
        if revision:
            schema.migrate(made[-1].params, to=revision)
        return made[-1]

    yield make
    for database in made:
        databases.drop(database)


@pytest.mark.parametrize("revision", ["0001_baseline", "0010_foreign_key_validate", "0017_sessions_row_security"])
def test_an_older_version_that_is_true_passes(at, revision):
    """A rollout may stop anywhere; what is promised is what its version says."""
    verified, found = found_in(at(revision))
    assert (verified.verdict, found) == ("pass", set())
    assert [one.id for one in verified.findings] == ["version/behind"]


def test_nothing_at_all_is_no_success(at):
    """An empty database has no version that it could keep."""
    assert found_in(at(""))[1] == {"version/none"}


def test_a_settled_database_says_so_and_one_that_is_behind_does_not(at, database):
    """A script in front of a deployment goes by it."""
    settled, behind = status.look(database.params), status.look(at("0016_updated_at_trigger").params)
    assert settled.is_settled
    assert settled.like.revisions == (objects.revisions()[-1],)
    assert not behind.is_settled
    assert behind.pending == objects.revisions()[16:]


@pytest.mark.parametrize("number", [12, 19, 16])
def test_the_status_of_a_broken_schema_is_not_settled(database, number):
    """The version alone proves nothing."""
    broken(database, MUTANTS[number][0] if number != 12 else ["DROP TABLE ai_interactions"])
    found = status.look(database.params)
    assert found.pending == ()
    assert not found.is_settled


def test_an_interrupted_rollout_and_who_is_at_work_are_named(database):
    """The next on duty has to know whether to wait, or to go on."""
    database.rows("CREATE SCHEMA session_fix")
    database.rows(
        "CREATE TABLE session_fix.rollout_steps "
        "(plan text, position int, step text, state text, started_at timestamptz)"
    )
    database.rows(
        "INSERT INTO session_fix.rollout_steps VALUES ('old', 1, 'a', 'running', now() - interval '1 day'), "
        "('abc', 0, '', 'begun', now()), ('abc', 1, 'b', 'done', now()), ('abc', 2, 'c', 'running', now())"
    )
    assert status.look(database.params).interrupted == ("c",)
    with database.connect(autocommit=True) as holder:
        holder.execute(f"SELECT pg_advisory_lock({lock.KEY})")
        found, pid = status.look(database.params), holder.info.backend_pid
    assert [one.pid for one in found.holders] == [pid]
    assert (found.interrupted, found.is_settled) == ((), False)
