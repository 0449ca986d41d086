"""Random tests, each with several leavings: whatever they were, the next database is what a fresh clone is."""

import contextlib
import random
import subprocess

import psycopg
import pytest

from session_fix.servers import embedded

ROWS = [
    "INSERT INTO ai_sessions (id) SELECT gen_random_uuid() FROM generate_series(1, {n})",
    "INSERT INTO log SELECT 'mine' FROM generate_series(1, {n})",
    "INSERT INTO unlogged VALUES ({n})",
    "INSERT INTO large VALUES (-{n})",
    "INSERT INTO numbered OVERRIDING SYSTEM VALUE VALUES ({n}, 'mine')",
    "DELETE FROM ai_interactions",
    "DELETE FROM unlogged WHERE n < {n}",
    "UPDATE unlogged SET n = n + {n}",
    "UPDATE ai_sessions SET user_id = 'mine {n}'",
    "UPDATE ai_sessions SET user_id = user_id",
    "DELETE FROM log",
    "DELETE FROM large WHERE n < 0",
    "UPDATE alembic_version SET version_num = '{n}'",
    "SELECT FROM ai_sessions FOR UPDATE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "SET session_replication_role = replica",
    "SET search_path = nowhere",
    "RESET search_path",
    "LISTEN mine",
    "CREATE TABLE IF NOT EXISTS mine (n integer)",
    "DROP TABLE IF EXISTS mine",
    "SELECT pg_advisory_lock({n})",
]
LEAVINGS = [
    "ALTER TABLE ai_sessions ADD COLUMN IF NOT EXISTS c{n} text",
    "CREATE INDEX ON log (what)",
    "CREATE TEMPORARY TABLE mine (n integer)",
    "COMMENT ON TABLE log IS 'mine {n}'",
    "GRANT SELECT ON log TO anon",
    "REVOKE ALL ON ai_sessions FROM service_role",
    "SELECT nextval('counter')",
    "SELECT setval('counter', {n})",
    "INSERT INTO numbered DEFAULT VALUES",
    "TRUNCATE log",
    "DROP TABLE log CASCADE",
    "SELECT lo_create(0)",
    "SELECT lo_put(4711, 0, 'mine')",
    "ALTER TABLE numbered DISABLE TRIGGER noting",
    "CREATE SCHEMA IF NOT EXISTS s{n}",
    "ANALYZE large",
    "DELETE FROM large WHERE n = {n}",
    "REFRESH MATERIALIZED VIEW counted",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO anon",
    "CREATE FUNCTION f{n}() RETURNS integer LANGUAGE sql AS 'SELECT {n}'",
]


def drawn(seed):
    """Return the statements of one test: mostly rows, in every other test a leaving among them."""
    draw = random.Random(seed)  # noqa: S311  it protects nothing
    from_what = ROWS if draw.random() < 0.5 else ROWS + LEAVINGS
    return [draw.choice(from_what).format(n=draw.randint(1, 9)) for _ in range(draw.randint(1, 8))]


@pytest.fixture(scope="module")
def dump():
    """Return a function that writes a database as text."""

    def write(database):
        program = embedded.binaries("18") / "pg_dump"
        env = {"LD_LIBRARY_PATH": str(program.parent.parent / "libs"), "LC_ALL": "C"}
        command = [program, "--inserts", "--rows-per-insert=1", "--no-sync", database.dsn]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        return sorted(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))

    return write


def leave(database, queries, *, own):
    """Run a test's statements, on the open connection or on one of its own; what the server refuses is not there."""
    with contextlib.ExitStack() as cleanup:
        connection = cleanup.enter_context(contextlib.closing(database.connect())) if own else database.connection
        connection.autocommit = True
        for query in queries:
            with contextlib.suppress(psycopg.Error):
                connection.execute(query)


def differences(private, picture, fresh, seeds):
    """Return, by seed, what the next test found otherwise than in a fresh clone."""
    found = {}
    for seed in seeds:
        with private.lend("recycle") as database:
            now = picture(database)
            if now != fresh:
                differing = [name for name in fresh if fresh[name] != now.get(name)]
                found[seed] = (drawn(seed - 1), differing)
            leave(database, drawn(seed), own=bool(seed % 2))
    return found


def test_what_random_tests_leave_is_not_found(private, picture, fresh):
    """Nobody thinks of every combination."""
    assert differences(private, picture, fresh, range(41)) == {}
    assert private.ended["recycled"] > 5
    assert len(private.ended) > 3


@pytest.mark.nightly
def test_what_many_random_tests_leave_is_not_found(private, picture, fresh):
    """Nobody thinks of every combination, and forty are not many."""
    assert differences(private, picture, fresh, range(1000, 1401)) == {}


def test_a_recycled_database_is_dumped_like_a_fresh_one(private, databases, dump):
    """Another program than ours, which looks at what its authors think belongs to a database."""
    whole = dump(databases.clone())
    for seed in range(2000, 2006):
        with private.lend("recycle") as database:
            leave(database, drawn(seed), own=True)
        with private.lend("recycle") as database:
            assert dump(database) == whole, drawn(seed)
