"""A server of its own for each module, with a state in which there is something of everything to leave a trace in."""

import contextlib
import dataclasses
import secrets
from collections import Counter
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from session_fix import schema, stack
from session_fix.database import fetched
from session_fix.databases import Databases
from session_fix.isolation import recycling, sizing
from session_fix.isolation.private import PrivateDatabases
from session_fix.progress import SILENT
from session_fix.settings import Settings

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
LARGE_OBJECT = 4711
STATE = f"""
INSERT INTO ai_sessions (id, user_id) VALUES ('00000000-0000-0000-0000-000000000001', 'of the state'),
    ('00000000-0000-0000-0000-000000000002', NULL);
INSERT INTO ai_interactions (id, session_id, prompt, response)
    VALUES ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'p', 'r');
CREATE SEQUENCE counter;
CREATE TABLE numbered (id integer GENERATED ALWAYS AS IDENTITY, word text);
CREATE UNLOGGED TABLE unlogged (n integer);
INSERT INTO unlogged VALUES (1), (2);
CREATE TABLE "100% ""sure"" {{it's}}" (id integer PRIMARY KEY, "per cent %" text, "a ""b"" c" bytea, j jsonb,
    twice integer GENERATED ALWAYS AS (id * 2) STORED, dropped integer, missing text);
ALTER TABLE "100% ""sure"" {{it's}}" DROP COLUMN dropped;
INSERT INTO "100% ""sure"" {{it's}}" VALUES (1, 'a,b''c\\', '\\x00ff', '{{"a": [1, null]}}'), (2, NULL, NULL, 'null');
CREATE TABLE large AS SELECT n FROM generate_series(1, {recycling.SAVED_AT_MOST} + 1) n;
CREATE TABLE log (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END$$;
CREATE TRIGGER noting AFTER INSERT OR UPDATE OR DELETE ON numbered FOR EACH ROW EXECUTE FUNCTION note();
CREATE MATERIALIZED VIEW counted AS SELECT n FROM unlogged;
CREATE UNIQUE INDEX ON counted (n);
CREATE VIEW sessions AS SELECT id FROM ai_sessions;
SELECT lo_from_bytea({LARGE_OBJECT}, 'of the state');
"""  # noqa: S608  names and numbers of our own
# Every row of every catalog and table, as text: clones of one template are copies of its files, oids and all.
RELATIONS = """
SELECT oid::regclass::text FROM pg_class
WHERE relkind IN ('r', 'm', 'S') AND NOT relisshared AND relnamespace <> 'pg_toast'::regnamespace ORDER BY 1
"""
AROUND = """
SELECT (SELECT array_agg(setconfig::text) FROM pg_db_role_setting WHERE setdatabase = d.oid OR setdatabase = 0),
    shobj_description(oid, 'pg_database'), datdba::regrole, datistemplate, datallowconn, datconnlimit, datacl,
    (SELECT array_agg(gid) FROM pg_prepared_xacts WHERE database = datname),
    (SELECT count(*) FROM pg_locks WHERE database = d.oid AND locktype = 'advisory'),
    (SELECT array_agg(subname) FROM pg_subscription WHERE subdbid = d.oid)
FROM pg_database d WHERE datname = current_database()
"""


@pytest.fixture
def nothing_is_made_ahead(monkeypatch):
    """Let the next test get what the last one gave back, if that can be handed on; and do not hurry a busy machine."""
    monkeypatch.setattr(sizing, "wanted", lambda *_: 0)
    monkeypatch.setattr(recycling, "LEAVING_S", 10.0)


@pytest.fixture
def in_no_time(monkeypatch, nothing_is_made_ahead):
    """Do not wait for the leaving of who will not leave."""
    assert nothing_is_made_ahead is None
    monkeypatch.setattr(recycling, "LEAVING_S", 0.0)


@pytest.fixture(scope="module")
def running():
    """Yield a stack of this module's own; its data API is not started unless it is asked for."""
    settings = Settings()
    with stack.start(settings, stack.new_keys(settings), progress=SILENT) as found:
        yield found


def fill(params):
    """Make the template: both tables and something of everything else."""
    schema.migrate(params)
    with psycopg.connect(**params) as connection:
        connection.execute(STATE)
    return "head"


@pytest.fixture(scope="module")
def databases(running):
    """Yield databases whose template holds that state; as on a server of another kind, it does not come with it."""
    server = dataclasses.replace(running.databases.server, kind="of a test")
    with Databases(server, run=secrets.token_hex(4), migrate=fill) as made:
        made.template()
        yield made


@dataclass
class Api:
    """What stands for the data API: its role, whether it has finished with a database, what it was told to let go."""

    login: str
    settled: dict
    gone: list


@pytest.fixture
def api():
    """Return what the private databases are told of the data API, which was not started."""
    return Api("", {}, [])


@pytest.fixture
def started_api(api, databases):
    """Return the same of a data API that was, and has a role."""
    api.login = databases.make_login()[0]
    return api


@pytest.fixture
def private(databases, api, nothing_is_made_ahead):
    """Yield private databases that nobody had before this test."""
    assert nothing_is_made_ahead is None
    made = PrivateDatabases(
        databases,
        rest=lambda: api.login,
        settled=api.settled.get,
        let_go=api.gone.append,
        alone=True,
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def picture():
    """Return a function that describes all that is in a database, and what is set for it."""

    def look(database):
        with database.connect() as connection:
            names = [name for (name,) in connection.execute(RELATIONS)]
            counted = (
                sql.SQL(
                    "SELECT {}, count(*), sum(hashtextextended(t::text, 0)::numeric)::text"
                    " FROM (SELECT * FROM ONLY {}) t"
                ).format(sql.Literal(name), sql.SQL(name))
                for name in names
            )
            found = {name: rest for name, *rest in connection.execute(sql.SQL(" UNION ALL ").join(counted))}
            return found | {"around": connection.execute(AROUND).fetchone()}

    return look


@pytest.fixture(scope="module")
def fresh(databases, picture):
    """Return what a clone is like that no test has had."""
    return picture(databases.clone())


@dataclass
class Outcome:
    """What the next test got: the same database or not, how it differs from a fresh one, what became of the old."""

    same: bool
    differs: dict
    ended: list


@pytest.fixture
def next_after(private, picture, fresh):
    """Return a function that lets a test do something to a database that others had, and says what the next gets."""

    def run(leave, isolation="recycle"):
        for _ in range(2):  # what a first test does is read with more care than what comes later
            with private.lend(isolation) as first:
                pass
        with private.lend(isolation) as first:
            leave(first)
        with private.lend(isolation) as second:
            found = picture(second)
            differs = {name: (fresh.get(name), found.get(name)) for name in fresh.keys() | found.keys()}
            differs = {name: pair for name, pair in differs.items() if pair[0] != pair[1]}
            before = {"recycle": "recycled", "clone": "dropped"}[isolation]
            return Outcome(second.name == first.name, differs, list(private.ended - Counter({before: 2})))

    return run


@pytest.fixture
def statements():
    """Return a function that runs statements on a connection of their own, each for itself, and closes it."""

    def run(database, *queries):
        with contextlib.closing(database.connect(autocommit=True)) as connection:
            for query in queries:
                connection.execute(query)

    return run


@pytest.fixture
def leak():
    """Return a function that opens a connection which nobody closes before the next test is over."""
    with contextlib.ExitStack() as cleanup:

        def connect(database, *queries, **options):
            connection = psycopg.connect(**database.params | options)
            cleanup.callback(connection.close)
            for query in queries:
                connection.execute(query)
            return connection

        yield connect


@pytest.fixture
def elsewhere(databases):
    """Return a function that runs a statement on a new connection to another database; it returns the rows."""

    def run(query):
        with contextlib.closing(psycopg.connect(**databases.params("postgres"), autocommit=True)) as connection:
            return fetched(connection.execute(query))

    return run
