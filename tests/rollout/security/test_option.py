"""The option ``owner-policies`` as a command: it says what it would do, does it or nothing of it, and takes it back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command as alembic
from alembic.config import Config

from session_fix import folders
from session_fix.errors import RolloutBusyError, RolloutRefusedError, StepFailedError
from session_fix.rollout import apply, audit, facts, objects, opting, options, planning, snapshots, verify

HEAD = objects.revisions()[-1]
OWNER = options.read(options.OWNER_POLICIES)
PROGRAM = Path(sys.executable).parent / "session-fix"


@pytest.fixture
def found(database):
    """Return a function that returns the objects of the test's database."""

    def look():
        with database.connect() as connection:
            return objects.read(connection)

    return look


@pytest.fixture
def run(database):
    """Return a function that runs the command on the test's database, or on none."""

    def start(*arguments, dsn=True):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
        env |= {"SESSION_FIX_DSN": database.dsn} if dsn else {}
        return subprocess.run(
            [PROGRAM, "migrate", "option", "owner-policies", *arguments],
            env=env,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return start


def test_the_file_of_objects_is_what_the_option_leaves(database):
    """``verify`` goes by that file. `python -m session_fix.rollout.snapshots` writes it anew."""
    assert snapshots.of_option(OWNER, database.params) == options.of(OWNER.name)


def test_up_and_up_again_and_down_and_down_again(database, found):
    """Who does not know whether it went through runs it once more."""
    for _ in range(2):
        opting.change(database.params, OWNER)
        assert found() == {**objects.of_revision(HEAD), **options.of(OWNER.name)}
        assert options.present(found()) == (OWNER.name,)
    for _ in range(2):
        opting.change(database.params, OWNER, undo=True)
        assert found() == objects.of_revision(HEAD)
        assert options.present(found()) == ()


def test_an_option_that_was_changed_is_present_still(database, found):
    """Else what somebody did to one policy of two would be told as objects that are too many."""
    opting.change(database.params, OWNER)
    database.rows("DROP POLICY ai_sessions_owner ON ai_sessions")
    database.rows("ALTER POLICY ai_interactions_owner ON ai_interactions USING (true)")
    assert options.present(found()) == (OWNER.name,)


def test_the_command_prints_the_sql_and_connects_to_nothing(run, found):
    """It is read by somebody before it is done."""
    printed = run(dsn=False)
    assert (printed.returncode, printed.stdout) == (0, f"{OWNER.index}\n{OWNER.up}"), printed.stderr
    assert printed.stdout.count("-- Blocks: ") == 2
    assert run("--undo", dsn=False).stdout == OWNER.down
    assert run().returncode == 0
    assert found() == objects.of_revision(HEAD)


def test_the_command_adds_it_and_takes_it_away(run, found):
    """With --apply it does what it printed."""
    done = run("--apply")
    assert (done.returncode, done.stdout) == (0, "owner-policies: added, and read back.\n"), done.stderr
    assert options.present(found()) == (OWNER.name,)
    done = run("--apply", "--undo")
    assert (done.returncode, done.stdout) == (0, "owner-policies: taken away, and read back.\n"), done.stderr
    assert found() == objects.of_revision(HEAD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE alembic_version SET version_num = '0016_updated_at_trigger'", "at 0016_updated_at_trigger"),
        ("DROP TABLE alembic_version", "at none"),
        ("ALTER TABLE ai_interactions DISABLE ROW LEVEL SECURITY", "table ai_interactions"),
        ("DROP POLICY ai_sessions_service_role ON ai_sessions", "policy ai_sessions.ai_sessions_service_role"),
        ("DROP TABLE ai_interactions", "no table ai_interactions"),
    ],
)
def test_a_database_that_is_not_at_head_is_refused(database, found, change, said):
    """On tables without row level security its grants would open every row to whoever signs in."""
    database.rows(change)
    before = found()
    with pytest.raises(RolloutRefusedError, match=said):
        opting.change(database.params, OWNER)
    assert found() == before


@pytest.mark.parametrize("undo", [False, True])
def test_whoever_holds_a_table_is_waited_for_and_not_ended(database, found, undo):
    """A try gives up after 0.2 s, so that nobody stands behind it; then it is as if nothing had been tried."""
    if undo:
        opting.change(database.params, OWNER)
    before = found()
    with database.connect() as other:
        other.execute("SELECT FROM ai_interactions")
        with pytest.raises(RolloutBusyError, match="Others hold the tables"):
            opting.change(database.params, OWNER, undo=undo, patience_s=0)
        assert other.execute("SELECT 1").fetchone() == (1,)
    after = found()
    assert {name: text for name, text in after.items() if not name.startswith("index ")} == {
        name: text for name, text in before.items() if not name.startswith("index ")
    }
    opting.change(database.params, OWNER, undo=undo)


def test_another_rollout_is_waited_for(database, found):
    """Two at a time would read back each other's work."""
    with database.connect(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (opting.lock.KEY,))
        with pytest.raises(RolloutBusyError, match="Another rollout"):
            opting.change(database.params, OWNER, patience_s=0)
    assert found() == objects.of_revision(HEAD)


def test_a_half_built_index_is_built_anew(database, found):
    """IF NOT EXISTS would be content with it, and every look at one's own sessions would read all."""
    database.rows("CREATE INDEX ai_sessions_user_id_idx ON ai_sessions (user_id)")
    database.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ai_sessions_user_id_idx'::regclass")
    opting.change(database.params, OWNER)
    assert found() == {**objects.of_revision(HEAD), **options.of(OWNER.name)}


def test_an_index_for_which_there_is_no_room_leaves_nothing(database, found):
    """To sort takes a file, and that may not be as large as it has to be."""
    before = found()
    database.rows("INSERT INTO ai_sessions (user_id) SELECT md5(n::text) FROM generate_series(1, 40000) n")
    for setting in ("temp_file_limit = '64kB'", "maintenance_work_mem = '1MB'"):
        database.rows(f"ALTER DATABASE {database.name} SET {setting}")
    with pytest.raises(StepFailedError, match="53400"):
        opting.change(database.params, OWNER)
    assert found() == before
    database.rows(f"ALTER DATABASE {database.name} RESET ALL")
    opting.change(database.params, OWNER)


def test_what_is_not_as_it_should_be_is_no_success(database):
    """An index of that name on something else stays as it is, and is said."""
    database.rows("CREATE INDEX ai_sessions_user_id_idx ON ai_sessions (updated_at)")
    with pytest.raises(StepFailedError, match=r"index ai_sessions\.ai_sessions_user_id_idx"):
        opting.change(database.params, OWNER)


def test_an_audit_finds_nothing_wrong_with_it(database):
    """Rights that come with the option are those that its policies hold back."""

    def told():
        found = audit.judge(facts.read(database.params), objects.revisions()).findings
        return {one.id for one in found if one.id.startswith("access/")}

    before = told()
    opting.change(database.params, OWNER)
    assert told() == before
    database.rows("GRANT TRUNCATE ON ai_sessions TO authenticated")
    assert told() == before | {"access/right-extra/authenticated/ai_sessions"}


def test_going_below_the_policies_leaves_browsers_nothing(database, migrated_down):
    """Row level security goes with its revision; a grant that somebody gave meanwhile must not open every row then."""
    opting.change(database.params, OWNER)
    database.rows("GRANT SELECT ON ai_interactions TO anon")
    migrated_down("0016_updated_at_trigger")
    rights = """
        SELECT has_table_privilege(r, t, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
        FROM unnest(ARRAY['anon', 'authenticated']) r, unnest(ARRAY['ai_sessions', 'ai_interactions']) t
    """
    assert database.rows(rights) == [(False,)] * 4


def test_what_was_granted_to_everybody_is_revoked(database, migrated_down):
    """PUBLIC is every role, anon among them; a revision that revokes from anon alone would change nothing."""
    migrated_down("0001_baseline")
    database.rows("GRANT ALL ON ai_sessions, ai_interactions TO PUBLIC")
    migrated_down("head", perform=alembic.upgrade)
    with database.connect() as connection:
        assert objects.read(connection) == objects.of_revision(HEAD)
        assert connection.execute("SELECT has_table_privilege('anon', 'ai_interactions', 'SELECT')").fetchone() == (
            False,
        )


@pytest.fixture
def migrated_down(database):
    """Return a function that takes the test's database to a revision by Alembic, down unless told otherwise."""
    import sqlalchemy as sa  # noqa: PLC0415  takes its time

    def migrate(revision, *, perform=alembic.downgrade):
        config = Config()
        config.set_main_option("script_location", str(folders.bundled("migrations")))
        engine = sa.create_engine("postgresql+psycopg://", creator=database.connect, poolclass=sa.NullPool)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            perform(config, revision)

    return migrate


def test_verify_takes_the_option_for_what_it_is(database):
    """It was added by choice, and is no change that somebody made by hand."""
    opting.change(database.params, OWNER)
    assert verify.judge(verify.look(database.params, timeout_s=10)).findings == ()
    database.rows("ALTER POLICY ai_sessions_owner ON ai_sessions USING (true)")
    found = verify.judge(verify.look(database.params, timeout_s=10)).findings
    assert "policy/differs/ai_sessions.ai_sessions_owner" in {one.id for one in found}


def test_a_rollback_wants_it_taken_away_first(database, session_fix_stack):
    """No earlier revision knows of it: its grants would be left over tables without row level security."""
    server = session_fix_stack.databases.server
    opting.change(database.params, OWNER)
    plan = planning.plan(database.params, to="0016", direction=planning.DOWN, server=server)
    with pytest.raises(RolloutRefusedError, match="session-fix migrate option owner-policies --undo --apply"):
        apply.apply(plan, database.params, allowed=plan.hazards)
    opting.change(database.params, OWNER, undo=True)
    plan = planning.plan(database.params, to="0016", direction=planning.DOWN, server=server)
    assert apply.apply(plan, database.params, allowed=plan.hazards).after == "0016_updated_at_trigger"
