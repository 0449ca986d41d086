"""A kept database is whole when it is opened on another server, with its owners, its rights and its version."""

import secrets
from contextlib import ExitStack

import psycopg
import pytest

from session_fix import kept
from session_fix.databases import Database
from session_fix.errors import UsageError

CONTENT = """
INSERT INTO ai_sessions (id, user_id) VALUES ('6f1a0000-0000-4000-8000-000000000001', 'Zoë');
CREATE TABLE numbered (id serial PRIMARY KEY);
INSERT INTO numbered DEFAULT VALUES; INSERT INTO numbered DEFAULT VALUES; DELETE FROM numbered;
ALTER TABLE numbered OWNER TO service_role;
SELECT lo_from_bytea(4242, 'large')
"""


def test_what_was_kept_is_whole_on_another_server(here, later, database):
    """Its own server is gone by the time somebody looks."""
    database.rows(CONTENT)
    one = here.keep(database)
    again = later.opened(kept.find(one.name))
    assert again.rows("SELECT user_id FROM ai_sessions") == [("Zoë",)]
    assert again.rows("SELECT nextval('numbered_id_seq')") == [(3,)]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'numbered'") == [("service_role",)]
    assert again.rows("SELECT lo_get(4242)") == [(b"large",)]
    versions = "SELECT version_num FROM alembic_version"
    assert again.rows(versions) == database.rows(versions) != []
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        again.rows(
            "INSERT INTO ai_interactions (id, session_id, prompt, response) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b')"
        )


def test_grants_are_as_they_were(here, later, database):
    """A test that failed for a missing right has to fail for it again."""
    again = later.opened(here.keep(database))
    may = "SELECT has_table_privilege(%s, 'ai_sessions', 'SELECT'), has_table_privilege(%s, 'ai_sessions', 'TRUNCATE')"
    assert again.rows(may, "service_role", "service_role") == [(True, False)]
    assert again.rows(may, "anon", "anon") == [(False, False)]


def test_variables_of_libpq_lead_nowhere_else(here, later, database, monkeypatch):
    """Somebody's PGOPTIONS and PGHOST are for somebody's own server."""
    for name, value in {"PGHOST": "nowhere.invalid", "PGOPTIONS": "-c role=nobody", "PGDATABASE": "postgres"}.items():
        monkeypatch.setenv(name, value)
    again = later.opened(here.keep(database))
    assert again.rows("SELECT count(*) FROM ai_sessions") == [(0,)]


@pytest.fixture
def reviewed(here, database):
    """Return a kept database that speaks of a role which only its server has, and the name of that role."""
    role = f"reviewer_{secrets.token_hex(3)}"
    database.rows(f"CREATE ROLE {role}")
    database.rows(
        f"GRANT SELECT ON ai_sessions TO {role}; CREATE TABLE reviews (); ALTER TABLE reviews OWNER TO {role}"
    )
    database.rows(f"CREATE POLICY reviewing ON ai_sessions FOR SELECT TO {role} USING (true)")
    return here.keep(database), role


def test_roles_that_the_server_lacks_are_made_and_named(later, reviewed):
    """Without them what was granted would be lost, and the caller has to be told that they are bare."""
    one, role = reviewed
    again = later.databases.empty()
    assert kept.restore(one, again.params) == [role]
    assert again.rows("SELECT has_table_privilege(%s, 'ai_sessions', 'SELECT')", role) == [(True,)]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [(role,)]
    assert again.rows("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = %s", role) == [(False, False)]


@pytest.fixture
def place(later):
    """Return a function that makes an empty database on the later server as a user of it with those rights sees it."""

    def make(rights):
        somebody, name = f"somebody_{secrets.token_hex(3)}", f"place_{secrets.token_hex(3)}"
        with psycopg.connect(**later.databases.params("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {somebody} LOGIN {rights}")
            connection.execute(f"CREATE DATABASE {name} OWNER {somebody}")
        return Database(name, later.databases.params(name) | {"user": somebody})

    return make


@pytest.mark.parametrize("rights", ["SUPERUSER", "CREATEROLE"])
def test_on_a_foreign_server_missing_roles_do_not_stay(place, reviewed, rights):
    """Nothing of ours stays there, but what was kept has to be opened all the same."""
    one, role = reviewed
    again = place(rights)
    assert kept.restore(one, again.params, foreign=True) == [role]
    assert again.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", role) == []
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [(again.params["user"],)]
    assert again.rows("SELECT has_table_privilege('service_role', 'ai_sessions', 'SELECT')") == [(True,)]


def test_whoever_opens_it_owns_what_its_owner_owned(here, place, database):
    """On another server he has another name, and without being superuser he may give tables to nobody else."""
    again = place("CREATEROLE")
    assert kept.restore(here.keep(database), again.params) == []
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'ai_sessions'") == [(again.params["user"],)]


def test_on_a_foreign_server_missing_roles_do_not_take_tables_with_them(later, reviewed):
    """The owner has the same name on both servers, so tables would go to the role that is dropped."""
    one, role = reviewed
    again = later.databases.empty()
    assert kept.restore(one, again.params, foreign=True) == [role]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [("postgres",)]


def test_versions_of_postgresql(here, later, database):
    """An older one is opened by itself and by newer ones; the other way round the command is wrong, and says so."""
    with ExitStack() as cleanup:
        old = type(here)(cleanup, version="16")
        one = old.keep(old.databases.clone())
        assert one.origin.major == 16
        for server in (old, later):
            assert server.opened(one).rows("SELECT count(*) FROM ai_sessions") == [(0,)]
        newer = here.keep(database)
        with pytest.raises(UsageError, match=r"PostgreSQL 18 cannot be opened on 16"):
            kept.restore(newer, old.databases.empty().params)
