"""A plan is carried out, exactly that one, and what is there at the end was read back."""

import json

import psycopg
import pytest

from session_fix.errors import MigrationIncompleteError, RolloutInterruptedError, StepFailedError
from session_fix.report import applied as report
from session_fix.rollout import lock, objects, planning
from session_fix.rollout.apply import REPAIRS, apply
from session_fix.rollout.happening import Begun, Done, Said, nobody
from session_fix.rollout.retrying import Ramp

IDS = list(objects.revisions())
HEAD = IDS[-1]
INDEX_STEP, INDEX = "0011_interactions_session_index", "ai_interactions_session_id_created_at_idx"
ORPHAN = """
SET session_replication_role = replica;
INSERT INTO ai_interactions (session_id, prompt, response) VALUES (gen_random_uuid(), '', '')
"""
ON = "ON public.ai_interactions (session_id, created_at)"


def test_an_empty_database_reaches_the_head(at, planned, applied, events, schema_of):
    """The whole way up; each step is told when it begins and when it is done."""
    database = at("")
    done = applied(planned(database), database)
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}
    assert database.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert [one.step.id for one in done.done] == IDS
    begun, ended = ([e.step.id for e in events if isinstance(e, kind)] for kind in (Begun, Done))
    assert begun == ended == IDS


def test_down_to_the_beginning_and_up_again(at, planned, applied, schema_of):
    """The version table stays, empty: the first step's note has to put up with that."""
    database = at(HEAD)
    applied(planned(database, ""), database)
    assert schema_of(database) == {}
    assert database.rows("SELECT version_num FROM alembic_version") == []
    applied(planned(database), database)
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}


def test_what_is_done_is_not_done_again(at, planned, applied, events):
    """The operator is not sure whether the command came to its end, and runs it again."""
    database = at(IDS[-3])
    plan = planned(database)
    applied(plan, database)
    events.clear()
    again = applied(plan, database)
    assert (again.before, again.after, again.done) == (HEAD, HEAD, ())
    assert not [event for event in events if isinstance(event, Begun)]


def test_the_journal_says_what_was_done(at, planned, applied):
    """Somebody looks into the database, not onto the operator's screen."""
    database = at(IDS[-3])
    plan = planned(database)
    applied(plan, database)
    rows = database.rows(
        "SELECT step, state, finished_at >= started_at, tries, application FROM session_fix.rollout_steps "
        "WHERE plan = %s AND position > 0 ORDER BY position",
        plan.hash,
    )
    assert rows == [(one, "done", True, 1, "session-fix migrate steps") for one in IDS[-2:]]


def test_the_data_api_is_told_to_read_the_schema_anew(at, planned, applied):
    """PostgREST answers by the schema that it has seen, and would know no new column."""
    database = at(IDS[-2])
    with database.connect(autocommit=True) as listening:
        listening.execute("LISTEN pgrst")
        applied(planned(database), database)
        assert [note.payload for note in listening.notifies(timeout=10, stop_after=1)] == ["reload schema"]


def test_an_index_that_a_build_left_invalid_is_built_again(at, planned, applied, events):
    """IF NOT EXISTS would take it for one that serves."""
    database = at(IDS[9])
    plan = planned(database, INDEX_STEP)
    invalidate(database, f"CREATE INDEX CONCURRENTLY {INDEX} {ON}")
    applied(planned(database, INDEX_STEP), database)
    assert database.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", INDEX) == [(True,)]
    assert any(isinstance(event, Said) and "not valid" in event.text for event in events)
    assert plan.hash  # that of before the mishap is refused elsewhere: its fingerprint does not fit any more


def test_what_reindex_left_beside_it_goes_too(at, planned, applied, schema_of):
    """Each of them costs every write, and serves nobody."""
    database = at(IDS[9])
    invalidate(database, f"CREATE INDEX CONCURRENTLY {INDEX}_ccnew {ON}")
    applied(planned(database, INDEX_STEP), database)
    assert objects.difference(schema_of(database), objects.of_revision(INDEX_STEP)) == {}


def invalidate(database, statement):
    """Build an index CONCURRENTLY, and break it off when it is in the catalog: somebody else's snapshot holds it up."""
    with database.connect() as old, database.connect(autocommit=True) as building:
        old.execute("INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())")
        old.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")
        building.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            building.execute(statement)
        old.rollback()


def test_an_equal_index_of_another_name_is_renamed(at, planned, applied, events, schema_of):
    """A second one would cost each write as much as the first, and be read by nobody."""
    database = at(IDS[9])
    database.rows(f'CREATE INDEX "Made by hand" {ON}')
    [(oid,)] = database.rows("SELECT '\"Made by hand\"'::regclass::oid")
    applied(planned(database, INDEX_STEP), database)
    assert database.rows(f"SELECT '{INDEX}'::regclass::oid") == [(oid,)]
    assert objects.difference(schema_of(database), objects.of_revision(INDEX_STEP)) == {}
    assert any(isinstance(event, Said) and "renamed" in event.text for event in events)


def test_another_index_of_the_name_stops_it(at, planned, applied):
    """Both definitions are shown: which one is wanted, only its owner knows."""
    database = at(IDS[9])
    database.rows(f"CREATE INDEX {INDEX} ON ai_interactions (created_at)")
    with pytest.raises(StepFailedError) as failed:
        applied(planned(database, INDEX_STEP), database)
    assert "USING btree (created_at)" in str(failed.value)
    assert "USING btree (session_id, created_at)" in str(failed.value)
    assert database.rows("SELECT version_num FROM alembic_version") == [(IDS[9],)]


def test_somebody_else_who_migrates_is_noticed(at, planned):
    """Whoever does not know the lock; two who change one schema leave what neither wanted."""
    database = at(IDS[-4])

    def meddle(event):
        if isinstance(event, Begun) and event.step.id == IDS[-2]:
            database.rows("UPDATE alembic_version SET version_num = %s", HEAD)

    with pytest.raises(StepFailedError, match=f"before {IDS[-2]}, alembic_version says {HEAD}"):
        apply(planned(database), database.params, on=meddle)
    assert database.rows("SELECT relrowsecurity FROM pg_class WHERE relname = 'ai_sessions'") == [(False,)]


def test_a_step_that_rows_refuse_fails_without_quoting_them(at, planned, applied):
    """The reason and what to do are said; a rerun goes on once the rows are right."""
    database = at("0012_sessions_updated_at_index")
    database.rows("INSERT INTO ai_sessions (id) VALUES ('11111111-0000-4000-8000-000000000001')")
    database.rows(
        "INSERT INTO ai_interactions (session_id, prompt, response, tokens_used) "
        "VALUES ('11111111-0000-4000-8000-000000000001', 'canary-prompt', 'canary-response', -1)"
    )
    plan = planned(database)
    with pytest.raises(StepFailedError, match="23514") as failed:
        applied(plan, database)
    assert "canary" not in str(failed.value)
    assert "2 of 6 steps are done" in str(failed.value)
    database.rows("UPDATE ai_interactions SET tokens_used = 0")
    assert [one.step.id for one in applied(plan, database).done] == IDS[14:]


def test_a_foreign_key_that_was_dropped_comes_back_over_orphans(at, planned, applied, schema_of):
    """What differs when the plan is made is in its fingerprint, and the steps put it right."""
    database = at("0006_interactions_defaults")
    database.rows("ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey")
    database.rows("INSERT INTO ai_interactions (session_id, prompt, response) VALUES (gen_random_uuid(), '', '')")
    applied(planned(database), database)
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(1,)]


def test_a_rollout_over_orphans_goes_on_after_each_of_its_steps(at, schema_of, session_fix_stack):
    """Between 0008 and 0010 the key is there and not valid: no revision leaves it so, and nobody changed it since."""
    database = at("0002_api_grants")
    database.rows("ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey")
    database.rows("INSERT INTO ai_interactions VALUES (gen_random_uuid(), gen_random_uuid(), '', '')")
    plan = planning.plan(database.params, server=session_fix_stack.databases.server)

    def end_after_a_step(event):
        if isinstance(event, Done):
            raise KeyboardInterrupt

    for _ in plan.steps:
        with pytest.raises(RolloutInterruptedError, match="goes on"):
            apply(plan, database.params, allowed=plan.hazards, on=end_after_a_step)
    assert apply(plan, database.params, allowed=plan.hazards).done == ()
    assert schema_of(database) == objects.of_revision(HEAD)


@pytest.mark.parametrize("ignored", [True, False])
def test_a_repair_waits_as_its_rollout_does(at, session_fix_stack, ignored):
    """For whom, for how long, and who is told of it: the operator has said that once, for all steps."""
    database, handed = at("0002_api_grants"), []
    plan = planning.plan(database.params, server=session_fix_stack.databases.server)

    def repair(_, **options):
        handed.append(options)

    how = {"ramp": Ramp(patience_s=7), "ignore_replicas": ignored, "on": nobody}
    apply(plan, database.params, allowed=plan.hazards, repairs=dict.fromkeys(REPAIRS, repair), **how)
    assert all(isinstance(options.pop("check").__self__, lock.Held) for options in handed)
    assert handed == 2 * [{"ignore_replicas": ignored, "patience_s": 7, "on": nobody}]


def test_what_was_there_before_and_is_none_of_ours_is_a_remark(at, planned, applied):
    """An index of somebody else's is no reason to say that the rollout failed."""
    database = at(IDS[-2])
    database.rows("CREATE INDEX theirs ON ai_interactions (model_used)")
    done = applied(planned(database), database)
    assert "index ai_interactions.theirs" in done.remarks[0]


@pytest.mark.parametrize(
    ("meddling", "said"),
    [
        ("DROP INDEX ai_sessions_updated_at_idx", "index ai_sessions.ai_sessions_updated_at_idx"),
        ("UPDATE alembic_version SET version_num = 'another'", "alembic_version says another"),
        (ORPHAN, "1 interactions have no session"),
    ],
)
def test_what_is_not_there_at_the_end_is_no_success(at, planned, meddling, said):
    """Each step may have been done, and its work undone by somebody; a quiet exit would hide that."""
    database = at(IDS[-2])

    def meddle(event):
        if isinstance(event, Done):
            with database.connect() as connection:
                connection.execute(meddling)

    with pytest.raises(MigrationIncompleteError, match=said):
        apply(planned(database), database.params, on=meddle)


def test_the_report_is_text_and_json(at, planned, applied):
    """People read the one, a pipeline keeps the other."""
    database = at(IDS[-3])
    done = applied(planned(database), database)
    assert HEAD in report.text(done)
    told = json.loads(json.dumps(report.as_json(done)))
    assert [one["id"] for one in told["steps"]] == IDS[-2:]
    assert told["steps"][0]["held_s"] > 0
