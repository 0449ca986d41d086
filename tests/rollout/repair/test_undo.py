"""An undo puts back what the journal says, byte for byte; and what somebody has changed or used since, it leaves."""

# The statements below are made of the constants below.
# ruff: noqa: S608

import psycopg
import pytest

from session_fix import schema
from session_fix.errors import UsageError
from session_fix.rollout import repair

S, T = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
# One session in place of two phantoms, whose interaction is there; one that is stored and began with its phantom; and
# one that only an interaction names.
ROWS = f"""
INSERT INTO ai_sessions (id, user_id, created_at, updated_at) VALUES
    ('00000001-0000-4000-8000-000000000000', '{S}', '2026-01-05 01:00', '2026-01-05 01:00'),
    ('00000002-0000-4000-8000-000000000000', '{S}', '2026-01-05 02:00', '2026-01-05 02:00'),
    ('00000003-0000-4000-8000-000000000000', '{T}', '2026-01-05 03:00', '2026-01-05 03:00'),
    ('{T}', 'ben', '2026-01-05 04:00', '2026-01-05 05:00'),
    ('11111111-1111-4111-8111-111111111111', 'eve', '2026-01-05 04:00', '2026-01-05 05:00');
INSERT INTO ai_interactions (id, session_id, prompt, response, created_at) VALUES
    (gen_random_uuid(), '{S}', '', '', '2026-01-05 02:30'),
    (gen_random_uuid(), '{T}', '', '', '2026-01-05 04:30'),
    (gen_random_uuid(), 'cccccccc-cccc-4ccc-8ccc-cccccccccccc', 'why?', 'so', '2026-01-05 06:00')
"""
ASK = "INSERT INTO ai_interactions (id, session_id, prompt, response) VALUES (gen_random_uuid(), '{0}', '', '')"


@pytest.fixture
def keyless(database):
    """Return a database without the foreign key, and with something of each kind to repair."""
    database.rows(KEYLESS)
    database.rows(ROWS)
    return database


@pytest.mark.parametrize("rows", [1, 2000])
@pytest.mark.parametrize("orphans", ["create", "quarantine", "delete", "none"])
def test_an_undo_puts_every_row_back(keyless, sums, orphans, rows):
    """It is what makes a repair safe to begin."""
    before = sums(keyless)
    done = repair.repair(keyless.params, orphans=orphans, batch_rows=rows)
    assert done.merged == 3
    assert sums(keyless) != before
    undone = repair.undo(keyless.params, "repair", batch_rows=rows)
    assert (undone.refused, sums(keyless)) == ((), before)
    again = repair.undo(keyless.params, "repair")
    assert (again.restored, sums(keyless)) == (0, before), "what was undone is not undone again"


def test_a_repair_can_be_repeated_after_an_undo(keyless, sums):
    """Under the same name, and that can be undone in its turn."""
    before = sums(keyless)
    first = repair.repair(keyless.params)
    repair.undo(keyless.params, "repair")
    second = repair.repair(keyless.params)
    assert (first.changes, first.merged) == (second.changes, second.merged)
    assert repair.undo(keyless.params, "repair").refused == ()
    assert sums(keyless) == before


@pytest.mark.state("orphans")
def test_two_runs_are_undone_one_by_one_the_last_one_first(database, sums):
    """The journal keeps them apart by name."""
    before = sums(database)
    repair.repair(database.params, orphans="none", run="phantoms")
    between = sums(database)
    repair.repair(database.params, run="orphans")
    repair.undo(database.params, "orphans")
    assert sums(database) == between
    repair.undo(database.params, "phantoms")
    assert sums(database) == before


@pytest.mark.state("orphans")
def test_what_the_revisions_did_is_undone_by_their_names(database, by_revisions, sums):
    """They write the same journal."""
    before = sums(database)
    by_revisions(database)
    assert sums(database) != before
    for name in ("0009_repair_orphans", "0007_merge_phantom_sessions"):
        assert repair.undo(database.params, name).refused == ()
    assert sums(database) == before


SINCE = {
    "it was changed since": (f"UPDATE ai_sessions SET user_id = 'mallory' WHERE id = '{S}'", S),
    "it was deleted since": (f"DELETE FROM ai_sessions WHERE id = '{S}'", S),
    "it was used since": (ASK.format(S), S),
    "a row of this id was stored since": (
        "INSERT INTO ai_sessions (id, user_id) VALUES ('00000001-0000-4000-8000-000000000000', 'new')",
        "00000001-0000-4000-8000-000000000000",
    ),
}
WHYS = {
    "it was changed since": ("jsonb_populate_record(s, n.after)::text <> s::text", "false"),
    "it was deleted since": ("WHERE after IS NOT NULL AND NOT EXISTS", "WHERE false AND NOT EXISTS"),
    "it was used since": ("AND u.used_by IS DISTINCT FROM n.used_by", "AND false"),
    "a row of this id was stored since": ("n.table_name = 'ai_sessions' AND n.after IS NULL;", "false;"),
}


def refusals(database):
    """Return what an undo refuses, by row and reason; the error where the database refuses it."""
    try:
        return [(one.id, one.why) for one in repair.undo(database.params, "repair").refused]
    except Exception as error:  # noqa: BLE001  a mutant may fail in any way
        return type(error)


@pytest.mark.parametrize("why", SINCE)
def test_what_was_changed_or_used_since_is_left_and_named(keyless, why):
    """Somebody's work of today counts for more than an undo of yesterday's."""
    statement, row = SINCE[why]
    repair.repair(keyless.params)
    keyless.rows(statement)
    seen = keyless.rows("SELECT s::text FROM ai_sessions s WHERE id = %s", row)
    assert refusals(keyless) == [(row, why)]
    assert keyless.rows("SELECT s::text FROM ai_sessions s WHERE id = %s", row) == seen
    assert keyless.rows("SELECT count(*) FROM ai_sessions WHERE user_id = %s", T) == [(1,)], "the others are put back"
    assert keyless.rows("SELECT count(*) FROM ai_sessions WHERE user_id = %s", S) == [(0,)], "all of it, or nothing"


@pytest.mark.parametrize("why", SINCE)
def test_an_undo_that_does_not_look_shows(keyless, mutated, why):
    """Each of the questions has a case that needs it."""
    mutated("undo", WHYS[why])
    statement, row = SINCE[why]
    repair.repair(keyless.params)
    keyless.rows(statement)
    assert refusals(keyless) != [(row, why)]


def test_a_session_that_another_table_refers_to_since_is_left(keyless):
    """Deleting it would take that table's rows along."""
    repair.repair(keyless.params)
    keyless.rows("CREATE TABLE votes (of uuid REFERENCES ai_sessions ON DELETE CASCADE)")
    keyless.rows("INSERT INTO votes VALUES (%s)", S)
    assert refusals(keyless) == [(S, "it was used since")]
    assert keyless.rows("SELECT count(*) FROM votes") == [(1,)]


def test_what_the_foreign_key_holds_is_said(keyless):
    """After the rollout there can be no orphans again, so what stands in for them has to stay."""
    repair.repair(keyless.params)
    keyless.rows("ALTER TABLE ai_interactions ADD FOREIGN KEY (session_id) REFERENCES ai_sessions (id)")
    undone = repair.undo(keyless.params, "repair")
    assert {one.why for one in undone.refused} == {"interactions name it, and the foreign key holds them to it"}
    assert len(undone.refused) == 2
    assert undone.restored == 2, "the stored session and its phantom"


def test_orphans_that_were_taken_away_need_their_session_where_there_is_a_key(keyless):
    """The database would refuse them, and the rest with them."""
    repair.repair(keyless.params, orphans="delete")
    keyless.rows("ALTER TABLE ai_interactions ADD FOREIGN KEY (session_id) REFERENCES ai_sessions (id)")
    whys = {one.why for one in repair.undo(keyless.params, "repair").refused if one.table == "ai_interactions"}
    assert whys == {"its session is not stored, and the foreign key asks for one"}


def test_quarantine_is_emptied(keyless):
    """A row is in one place."""
    repair.repair(keyless.params, orphans="quarantine")
    assert keyless.rows("SELECT prompt FROM session_fix.quarantined_interactions") == [("why?",)]
    repair.undo(keyless.params, "repair")
    assert keyless.rows("SELECT prompt FROM session_fix.quarantined_interactions") == []


EDGES = [
    "infinity",
    "-infinity",
    "2026-01-05 01:02:03.000001",
    "0044-03-15 12:00:00.999999 BC",
    "294276-12-31 23:59:59.999999",
    "4713-01-01 00:00:00 BC",
]


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_moments_come_back_exactly(database, sums, kind):
    """The copy is JSON, whose numbers and words are not those of the database."""
    for table, names in (("ai_sessions", ("created_at", "updated_at")), ("ai_interactions", ("created_at",))):
        database.rows(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_time_finite")
        database.rows(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_times_finite")
        for name in names:
            database.rows("DROP TRIGGER IF EXISTS ai_sessions_touch ON ai_sessions")
            database.rows(f"ALTER TABLE {table} ALTER {name} TYPE {kind}")
    for number, moment in enumerate(EDGES):
        known = f"{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
        database.rows("INSERT INTO ai_sessions VALUES (%s::uuid, 'anna', '2026-01-01', '2026-01-01')", known)
        database.rows("INSERT INTO ai_sessions VALUES (gen_random_uuid(), %s, %s, %s)", known, moment, moment)
    before = sums(database)
    assert repair.repair(database.params).merged == len(EDGES)
    assert repair.undo(database.params, "repair").refused == ()
    assert sums(database) == before


@pytest.fixture
def old(session_fix_stack):
    """Yield a database at the revision that production is at, before the rollout."""
    databases = session_fix_stack.databases
    databases.template()  # for the data API's roles
    made = databases.empty()
    schema.migrate(made.params, to="0002_api_grants")
    yield made
    databases.drop(made)


def test_an_undo_after_the_rollout_puts_back_the_same_moments(old):
    """Then the columns have another type than the journal's copies."""
    old.rows(ROWS.split("INSERT INTO ai_interactions", maxsplit=1)[0].rstrip().removesuffix(";"))
    moments = "SELECT id, user_id, extract(epoch FROM created_at), extract(epoch FROM updated_at) FROM ai_sessions"
    before = sorted(old.rows(moments))
    assert repair.repair(old.params).merged == 1
    schema.migrate(old.params)
    assert repair.undo(old.params, "repair").refused == ()
    assert sorted(old.rows(moments)) == before


@pytest.mark.state("orphans")
def test_the_script_undoes_it_without_this_program(database, sums):
    """Who has to go back at night may have nothing but psql."""
    before = sums(database)
    repair.repair(database.params, orphans="quarantine")
    with database.connect(autocommit=True) as connection:
        results = connection.execute(repair.script("repair").encode())
        said = []
        while results.nextset():
            said += results.fetchall() if results.description else []
    assert said[-1][1] == []
    assert sums(database) == before


def test_a_run_that_is_none_is_named_with_those_that_are(keyless):
    """A misspelt name must not look like a successful undo."""
    with pytest.raises(UsageError, match="there is none"):
        repair.undo(keyless.params, "repair")
    repair.repair(keyless.params, run="first")
    with pytest.raises(UsageError, match="it knows first"):
        repair.undo(keyless.params, "frist")


def test_the_journal_is_for_its_owner(keyless):
    """It holds whole rows, prompts among them."""
    repair.repair(keyless.params, orphans="quarantine")
    for role in ("anon", "authenticated", "service_role"):
        for table in ("repair_journal", "quarantined_interactions"):
            with keyless.connect() as connection:
                connection.execute(f"SET ROLE {role}")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SELECT FROM session_fix.{table}")


def test_the_planner_has_seen_what_batches_look_into(keyless):
    """Of a table that it has never seen it expects few rows, and each batch reads a million: measured, not imagined."""
    seen = "SELECT DISTINCT tablename::text FROM pg_stats WHERE tablename = ANY(%s)"
    tables = ["ai_interactions", "ai_sessions", "repair_journal"]
    assert keyless.rows(seen, tables) == []
    repair.repair(keyless.params)
    repair.undo(keyless.params, "repair")
    assert {name for (name,) in keyless.rows(seen, tables)} == set(tables)
