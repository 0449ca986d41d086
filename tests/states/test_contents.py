"""Each state, built on a real database, is what it says."""

import pytest

from session_fix import states
from session_fix.schema import TABLES

SIZED = [name for name in states.names() if states.state(name).size]
COUNTS = "SELECT (SELECT count(*) FROM ai_sessions), (SELECT count(*) FROM ai_interactions)"
FOREIGN_KEYS = (
    "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
    "WHERE contype = 'f' AND conrelid = 'ai_interactions'::regclass"
)
ORPHANS = "FROM ai_interactions i WHERE NOT EXISTS (SELECT FROM ai_sessions s WHERE s.id = i.session_id)"
USED = "EXISTS (SELECT FROM ai_interactions i WHERE i.session_id = s.id)"
PROMISED = f"""
  FROM (
    SELECT user_id, count(*) AS phantoms FROM ai_sessions s
    WHERE NOT EXISTS (SELECT FROM ai_sessions known WHERE known.id::text = s.user_id) AND length(user_id) = 36
    GROUP BY user_id HAVING NOT bool_or({USED})
  ) promised
"""  # noqa: S608  a constant in a constant
TABLES_THERE = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


def found(database, query):
    """Return the one value that the query finds."""
    ((value,),) = database.rows(query)
    return value


@pytest.fixture
def migrated_keys(build):
    """Return the foreign keys as the migrations make them."""
    return build("empty").rows(FOREIGN_KEYS)


def test_empty_is_migrated_and_holds_nothing(build):
    """It is what every test got before there were states."""
    database = build("empty")
    assert {name for (name,) in database.rows(TABLES_THERE)} == TABLES | {"alembic_version"}
    assert database.rows(COUNTS) == [(0, 0)]


def test_alembic_has_never_been_in_the_hand_made_state(build, migrated_keys):
    """The same tables and columns under other names and types; a rollout has to cope with that."""
    database, migrated = build("hand_made"), build("empty")
    columns = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_name LIKE 'ai_%' ORDER BY 1, 2"
    )
    assert {name for (name,) in database.rows(TABLES_THERE)} == TABLES
    assert database.rows(columns) == [row for row in migrated.rows(columns) if row[0] in TABLES]
    assert database.rows(FOREIGN_KEYS)[0][0] == "fk_session" != migrated_keys[0][0]
    assert database.rows("SELECT count(*) FROM pg_constraint WHERE conname = 'interactions_pk'") == [(1,)]


def test_the_hand_made_state_fills_in_what_an_insert_leaves_out(build):
    """People write defaults into the table that the backend's own code never needed."""
    database = build("hand_made")
    database.rows("INSERT INTO ai_sessions (user_id) VALUES ('somebody')")
    left_out = (
        "SELECT id IS NULL OR created_at IS NULL OR updated_at IS NULL FROM ai_sessions WHERE user_id = 'somebody'"
    )
    assert database.rows(left_out) == [(False,)]
    kinds = (
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE column_name IN ('created_at', 'updated_at')"
    )
    assert database.rows(f"{kinds} AND table_schema = 'public'") == [("timestamp with time zone",)]
    database.rows("DELETE FROM ai_sessions")
    assert database.rows(COUNTS) == [(0, 0)], "ON DELETE CASCADE"


def test_the_hand_made_state_holds_rows_and_lets_everybody_at_them(build):
    """Supabase granted everything on a new table to everybody who has the browser's key."""
    database = build("hand_made")
    assert database.rows(COUNTS) == [(3, 3)]
    for role in ("anon", "authenticated", "service_role"):
        assert found(database, f"SELECT has_table_privilege('{role}', 'ai_interactions', 'TRUNCATE')"), role
    assert not found(build("empty"), "SELECT has_table_privilege('anon', 'ai_interactions', 'SELECT')")


@pytest.mark.parametrize("size", [1, 2, 33, 400])
def test_each_promised_session_left_phantoms_and_nothing_else(build, size):
    """The fingerprint: one row per create and one per query, and no interaction."""
    database = build("production_after_the_bug", size=size)
    ((promised, fewest, most),) = database.rows(f"SELECT count(*), min(phantoms), max(phantoms) {PROMISED}")
    assert promised == size
    assert fewest == (1 if size >= 4 else 2), "every fourth was never used"
    assert most > 1
    assert found(database, f"SELECT count(*) {ORPHANS}") == 0


def test_production_after_the_bug_holds_real_sessions_too(build, migrated_keys):
    """A repair that takes every session for a phantom has to be found out."""
    database = build("production_after_the_bug", size=64)
    user = "CASE WHEN user_id IS NULL THEN 'none' WHEN length(user_id) = 36 THEN 'UUID' ELSE left(user_id, 5) END"
    kinds = dict(database.rows(f"SELECT {user} || ' ' || {USED}, count(*) FROM ai_sessions s GROUP BY 1"))  # noqa: S608
    assert kinds.pop("UUID false") > 64, "the phantoms"
    assert kinds == {"user- true": 2, "user- false": 2, "none true": 2, "UUID true": 2}
    assert database.rows(FOREIGN_KEYS) == migrated_keys


@pytest.mark.parametrize("size", [1, 2, 3, 4, 33, 400])
def test_orphans_are_there_and_the_foreign_key_is_not(build, size):
    """Even the smallest holds some, and healthy rows beside them."""
    database = build("orphans", size=size)
    assert database.rows(FOREIGN_KEYS) == []
    assert found(database, f"SELECT count(*) {ORPHANS}") > 0
    assert found(database, "SELECT count(*) FROM ai_interactions JOIN ai_sessions s ON s.id = session_id") > 0


def test_orphans_are_of_two_kinds(build):
    """A phantom remembers some of their sessions; of the others nothing else is left."""
    database = build("orphans")
    remembered = "EXISTS (SELECT FROM ai_sessions p WHERE p.user_id = i.session_id::text)"
    kinds = dict(database.rows(f"SELECT {remembered}, count(DISTINCT session_id) {ORPHANS} GROUP BY 1"))
    assert kinds[True] == 150, "200 sessions after the key was dropped, one in four never used"
    assert kinds[False] == 6, "one in 32 sessions was of an erased user"
    assert found(database, "SELECT count(*) FROM alembic_version") == 1


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_large_has_as_many_interactions_as_it_was_asked_for(build, migrated_keys, size):
    """And every one of them has its session, under the foreign key that the migrations made."""
    database = build("large", size=size)
    assert found(database, "SELECT count(*) FROM ai_interactions") == size
    assert found(database, f"SELECT count(*) {ORPHANS}") == 0
    assert database.rows(FOREIGN_KEYS) == migrated_keys
    used = "SELECT count(DISTINCT session_id) = (SELECT count(*) FROM ai_sessions) FROM ai_interactions"
    assert found(database, used), "every session was used"


def test_large_is_as_uneven_as_production(build):
    """Averages hide what a long session or a long text costs."""
    database = build("large", size=5000)
    per_session = "FROM (SELECT count(*) AS n FROM ai_interactions GROUP BY session_id) used"
    ((ones, most),) = database.rows(f"SELECT avg((n = 1)::int)::float, max(n) {per_session}")
    assert 0.4 < ones < 0.6
    assert 50 < most <= 100
    lengths = "SELECT min(length(response)), avg(length(response))::int, max(length(response)) FROM ai_interactions"
    ((least, mean, longest),) = database.rows(lengths)
    assert least == 80
    assert 200 < mean < 600
    assert 3000 < longest <= 4000
    unusual = r"SELECT bool_or(prompt LIKE E'%\n%'), bool_or(prompt LIKE '%🙂%'), bool_or(prompt LIKE '%C:\\new%')"
    assert database.rows(f"{unusual} FROM ai_interactions") == [(True, True, True)]
    users = "FROM (SELECT count(*) AS n FROM ai_sessions WHERE user_id IS NOT NULL GROUP BY user_id) seen"
    assert found(database, f"SELECT max(n) > 10 * avg(n) {users}")


@pytest.mark.parametrize("name", states.names())
def test_time_runs_forward_and_long_ago(build, name):
    """Nothing is of today: a state made now and one made next year are the same."""
    database = build(name, **({"size": 500} if name in SIZED else {}))
    assert found(database, "SELECT count(*) FROM ai_sessions WHERE created_at > updated_at") == 0
    early = "FROM ai_interactions i JOIN ai_sessions s ON s.id = session_id WHERE i.created_at <= s.created_at"
    assert found(database, f"SELECT count(*) {early}") == 0
    for rows in ("FROM ai_sessions", "FROM ai_interactions"):
        outside = "created_at NOT BETWEEN '2025-11-01' AND '2027-06-01' OR created_at IS NULL"
        assert found(database, f"SELECT count(*) {rows} WHERE {outside}") == 0


@pytest.mark.parametrize("name", states.names())
def test_the_same_choice_gives_the_same_bytes(build, content, name):
    """A cached state and one made again must not be told apart."""
    size = {"size": 200} if name in SIZED else {}
    assert content(build(name, seed=5, **size)) == content(build(name, seed=5, **size))


@pytest.mark.parametrize("name", SIZED)
def test_another_seed_gives_other_bytes(build, content, name):
    """A seed that changes nothing varies nothing; texts vary, too, not only ids."""
    made = [build(name, size=20, seed=seed) for seed in (0, 1, 2**32, states.LARGEST_SEED)]
    texts = {
        found(database, "SELECT string_agg(prompt, '' ORDER BY created_at) FROM ai_interactions") for database in made
    }
    assert len({content(database) for database in made}) == len(texts) == 4


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("hand_made", "a939b1c1bfe3"),
        ("large", "d4c710f404e9"),
        ("orphans", "80bc4d5b66aa"),
        ("production_after_the_bug", "e9a251c66196"),
    ],
)
def test_every_machine_gives_the_same_bytes(build, content, name, begins):
    """Neither the clock nor Python's or PostgreSQL's version may show; when the state's code changes, so may these."""
    assert content(build(name, **({"size": 300, "seed": 42} if name in SIZED else {})))[:12] == begins


@pytest.mark.parametrize("name", states.names())
def test_progress_runs_to_its_total(build, name):
    """Whoever waits for a big state sees how far it is, and its end."""
    told = []
    size = {"size": 12_000} if name in SIZED else {}
    database = build(name, progress=lambda done, total: told.append((done, total)), **size)
    written = sum(database.rows(COUNTS)[0])
    assert told[-1:] == [(written, written)] * bool(written)
    assert told == sorted(told)
    assert {total for _, total in told} <= {written}
    assert len(told) > 1 or not size


@pytest.mark.parametrize("name", [name for name in states.names() if name != "empty"])
def test_nothing_stays_when_the_caller_does_not_commit(unfilled, name):
    """The caller decides: a state that was interrupted half-way leaves the database as it was."""
    chosen = states.state(name)
    with unfilled(chosen).connect() as connection:
        before = connection.execute("SELECT count(*) FROM pg_constraint").fetchone()
        states.State(name, min(chosen.size, 20), 0).fill(connection)
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM pg_constraint").fetchone() == before
        if chosen.revision:
            assert connection.execute(COUNTS).fetchone() == (0, 0)
