"""The schema as the migrations make it: the tables of the backend, and who may do what with them."""

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from session_fix import folders, schema
from session_fix.rollout import objects
from session_fix.servers import embedded

COLUMNS = [
    ("ai_interactions", "id", "uuid", "NO"),
    ("ai_interactions", "session_id", "uuid", "NO"),
    ("ai_interactions", "prompt", "text", "NO"),
    ("ai_interactions", "response", "text", "NO"),
    ("ai_interactions", "model_used", "character varying(50)", "YES"),
    ("ai_interactions", "tokens_used", "integer", "YES"),
    ("ai_interactions", "created_at", "timestamp without time zone", "YES"),
    ("ai_sessions", "id", "uuid", "NO"),
    ("ai_sessions", "user_id", "character varying(100)", "YES"),
    ("ai_sessions", "created_at", "timestamp without time zone", "YES"),
    ("ai_sessions", "updated_at", "timestamp without time zone", "YES"),
]
CONSTRAINTS = [
    ("ai_interactions", "FOREIGN KEY (session_id) REFERENCES ai_sessions(id)"),
    ("ai_interactions", "PRIMARY KEY (id)"),
    ("ai_sessions", "PRIMARY KEY (id)"),
]
OUR_TABLES = "c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'"
COLUMNS_IN_PLACE = f"""
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
           CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE {OUR_TABLES} AND a.attnum > 0 ORDER BY c.relname, a.attnum
"""  # noqa: S608  put together from the constant above
CONSTRAINTS_IN_PLACE = f"""
    SELECT c.relname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE {OUR_TABLES} AND k.contype <> 'n' ORDER BY 1, 2
"""  # noqa: S608  put together from the constant above
GRANTS = f"""
    SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE {OUR_TABLES} AND a.grantee <> c.relowner
    UNION
    SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type || ' of a column'
    FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid CROSS JOIN aclexplode(t.attacl) a
    LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE {OUR_TABLES}
    ORDER BY 1, 2, 3
"""  # noqa: S608  put together from the constant above
RIGHTS = ("DELETE", "INSERT", "SELECT", "UPDATE")
HEAD = objects.revisions()[-1]
FOUR = [(table, "service_role", right) for table in sorted(schema.TABLES) for right in RIGHTS]


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


@pytest.fixture
def alembic(empty):
    """Return a function that runs an Alembic command on the empty database."""

    def run(perform, *arguments):
        config = Config()
        config.set_main_option("script_location", str(folders.bundled("migrations")))
        engine = sa.create_engine("postgresql+psycopg://", creator=empty.connect, poolclass=sa.NullPool)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            perform(config, *arguments)
            connection.commit()

    return run


def columns(database):
    """Return table, column, type, nullability and default of everything in the schema but Alembic's own table."""
    return database.rows(COLUMNS_IN_PLACE)


def test_the_first_revision_is_the_table_as_the_backend_has_it(alembic, empty):
    """The bug lives in exactly these tables: an id without a default, and a foreign key that is checked at once."""
    alembic(command.upgrade, "0001_baseline")
    assert columns(empty) == [(*column, None) for column in COLUMNS]
    assert empty.rows(CONSTRAINTS_IN_PLACE) == CONSTRAINTS


def test_only_the_service_key_may_touch_rows(database):
    """Prompts are nobody's business but the backend's; browsers carry the anon key."""
    assert database.rows(GRANTS) == FOUR


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_truncate_is_refused_to_every_role(database, role):
    """No row-level security stands in the way of TRUNCATE."""
    with database.connect() as connection:
        connection.execute(f"SET ROLE {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("TRUNCATE ai_sessions, ai_interactions")


def test_what_an_older_project_granted_is_taken_back(alembic, empty):
    """Supabase used to grant everything on new tables, to anon as well."""
    alembic(command.upgrade, "0001_baseline")
    empty.rows("GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated, service_role")
    empty.rows("GRANT SELECT (prompt) ON ai_interactions TO anon")
    assert len(empty.rows(GRANTS)) > len(FOUR) * 2
    alembic(command.upgrade, "head")
    assert empty.rows(GRANTS) == FOUR


def test_a_plain_postgresql_has_none_of_the_roles():
    """Roles belong to the server, so this takes a new one: the migrations apply there as well."""
    with embedded.start() as (server, _):
        params = server.admin | {"dbname": "postgres"}
        assert schema.migrate(params) == HEAD
        with psycopg.connect(**params) as connection:
            assert connection.execute(GRANTS).fetchall() == []
            assert connection.execute("SELECT to_regrole('service_role')").fetchone() == (None,)


def test_a_row_that_says_little_is_completed_by_the_server(database):
    """Whoever writes SQL by hand need not think of an id, nor of the time."""
    database.rows("INSERT INTO ai_sessions (user_id) VALUES ('somebody')")
    database.rows("INSERT INTO ai_interactions (session_id, prompt, response) SELECT id, 'p', 'r' FROM ai_sessions")
    ((complete,),) = database.rows("SELECT s.id IS NOT NULL AND s.created_at = s.updated_at FROM ai_sessions s")
    assert complete
    ((complete,),) = database.rows("SELECT id IS NOT NULL AND created_at IS NOT NULL FROM ai_interactions")
    assert complete


@pytest.mark.parametrize("columns", ["created_at", "updated_at"])
def test_infinity_is_refused(database, columns):
    """Python cannot read it."""
    with pytest.raises(psycopg.errors.CheckViolation):
        database.rows(f"INSERT INTO ai_sessions ({columns}) VALUES ('infinity')")  # noqa: S608


def test_updated_at_follows_an_update_and_believes_who_sets_it(database):
    """The fix that ships does not touch it; a repair puts old values back."""
    old = "2020-01-01 00:00:00+00"
    database.rows("INSERT INTO ai_sessions (created_at, updated_at) VALUES (%s, %s)", old, old)
    database.rows("UPDATE ai_sessions SET user_id = 'somebody'")
    assert database.rows("SELECT updated_at > created_at FROM ai_sessions") == [(True,)]
    database.rows("UPDATE ai_sessions SET updated_at = %s", old)
    assert database.rows("SELECT updated_at = created_at FROM ai_sessions") == [(True,)]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_browser_that_was_granted_too_much_still_sees_no_row(database, role):
    """That is what row level security is for, where grants are no longer."""
    database.rows("INSERT INTO ai_sessions (user_id) VALUES ('somebody')")
    database.rows(f"GRANT ALL ON ai_sessions TO {role}")
    with database.connect() as connection:
        connection.execute(f"SET ROLE {role}")
        assert connection.execute("SELECT count(*) FROM ai_sessions").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO ai_sessions (user_id) VALUES ('me')")


def test_going_down_takes_the_grants_and_then_the_tables(alembic, empty):
    """Back at the first revision, the tables are as they were then; before it there are none."""
    alembic(command.upgrade, "head")
    alembic(command.downgrade, "0001_baseline")
    assert empty.rows(GRANTS) == []
    assert [column[:4] for column in columns(empty)] == COLUMNS
    alembic(command.downgrade, "base")
    assert columns(empty) == []


def test_migrating_twice_changes_nothing(empty):
    """A deployment that is repeated must not fail."""
    assert schema.migrate(empty.params) == schema.migrate(empty.params)
    assert empty.rows(GRANTS) == FOUR


def test_a_stamp_on_an_empty_database_is_not_believed(alembic, empty):
    """Alembic reports success there: the version says head, and no table exists."""
    alembic(command.stamp, "head")
    with pytest.raises(schema.MigrationIncompleteError, match=r"missing: \['ai_interactions', 'ai_sessions'\]"):
        schema.migrate(empty.params)


def test_a_version_that_is_not_ours_is_not_believed(alembic, empty):
    """Two rows in the version table are two branches, one of which nobody knows."""
    alembic(command.upgrade, "head")
    empty.rows("INSERT INTO alembic_version VALUES ('0001_baseline')")
    with pytest.raises(schema.MigrationIncompleteError, match="0001_baseline"):
        schema._verify(empty.params, HEAD)  # noqa: SLF001  alembic itself would stop at two heads
