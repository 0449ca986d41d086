"""Alembic migrates a database once at a time, in real processes: the others wait and find nothing left to do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from session_fix import folders, schema
from session_fix.rollout import objects

FOUR = 4
DEADLINE_S = 120
LOCK = 0x5E55_F1_0000_0001
HEAD = objects.revisions()[-1]
INDEXES = {
    "0011_interactions_session_index": "ai_interactions_session_id_created_at_idx ON ai_interactions (session_id)",
    "0012_sessions_updated_at_index": "ai_sessions_updated_at_idx ON ai_sessions (updated_at)",
}
# Alembic's own command, in so many processes: ready to begin, and told to go all at once. What takes its time, the
# imports, is done once. Each says on its own stderr which revisions it applies.
PROGRAM = """
import json, logging, os, sys
import psycopg, sqlalchemy.dialects.postgresql.psycopg
from alembic.config import main

ini, *files = sys.argv[1:]
gate, opening = os.pipe()
children = []
for file in files:
    if not (child := os.fork()):
        os.close(opening)
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 2)
        logging.basicConfig(level="INFO")
        os.read(gate, 1)
        main(["-c", ini, "upgrade", "head"])
        sys.exit()
    children.append(child)
print("ready", flush=True)
sys.stdin.readline()
os.close(opening)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""
BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@dataclass
class Migrations:
    """Processes that migrate, and what each writes."""

    parent: subprocess.Popen
    said: list[Path]

    def texts(self):
        """Return what each has written so far."""
        return [one.read_text() if one.exists() else "" for one in self.said]

    def worked(self):
        """Return how many have applied a revision."""
        return sum("Running upgrade" in text for text in self.texts())

    def waiting(self):
        """Return how many have told that they wait for another."""
        return sum("Waiting for another migration" in text for text in self.texts())

    def go(self):
        """Let them begin."""
        self.parent.stdin.write("go\n")
        self.parent.stdin.flush()

    def exit_codes(self):
        """Return the exit code of each, once all have ended."""
        self.parent.wait(DEADLINE_S)
        return json.loads(self.parent.stdout.read())


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


@pytest.fixture
def start(empty, tmp_path):
    """Return a function that starts processes which migrate the empty database once they are told to."""
    begun = []
    params = dict(empty.params)
    names = {"username": params.pop("user"), "password": params.pop("password", None), "database": params.pop("dbname")}
    url = sa.URL.create("postgresql", **names, query=params).render_as_string(hide_password=False)

    def begin(count, migrations=None):
        ini = tmp_path / "alembic.ini"
        ini.write_text(f"[alembic]\nscript_location = {migrations or folders.bundled('migrations')}\n")
        said = [tmp_path / f"{number}.txt" for number in range(count)]
        parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, ini, *said],
            env=os.environ | {"DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        begun.append(parent)
        assert parent.stdout.readline() == "ready\n"
        return Migrations(parent, said)

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def without_lock(tmp_path):
    """Return the folder of migrations whose environment takes no lock."""
    folder = tmp_path / "migrations"
    shutil.copytree(folders.bundled("migrations"), folder)
    text = (folder / "env.py").read_text()
    assert text.count("with alone(connection):") == 1
    (folder / "env.py").write_text(text.replace("with alone(connection):", "with nullcontext():"))
    return folder


def until(condition, what):
    """Wait until the condition is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def blocked(database, count):
    """Wait until so many sessions wait for a lock."""
    with database.connect(autocommit=True) as watching:
        until(lambda: watching.execute(BLOCKED).fetchone() == (count,), f"{count} sessions that wait")


def all_well(migrations, database):
    """Say that all ended well, one of them did the work, and what it left is whole."""
    assert migrations.exit_codes() == [0] * FOUR, migrations.texts()
    assert migrations.worked() == 1
    with database.connect() as connection:
        assert objects.read(connection) == objects.of_revision(HEAD)
    assert database.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]


@pytest.mark.parametrize("trial", [0, 1, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(2, 20))])
@pytest.mark.parametrize("before", ["", "0010_foreign_key_validate"], ids=["from nothing", "from mid-chain"])
def test_four_at_once_end_well(empty, start, before, trial):
    """A deployment of four replicas, each of which migrates first; nobody arranges who comes when."""
    assert trial >= 0
    if before:
        schema.migrate(empty.params, to=before)
    migrations = start(FOUR)
    migrations.go()
    all_well(migrations, empty)


def test_from_nothing_three_wait_while_one_creates_the_first_table(empty, start):
    """The arrangement in which four that do not wait for each other are sure to collide, see the next test."""
    with empty.connect() as first:
        first.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        migrations = start(FOUR)
        migrations.go()
        blocked(empty, 1)
        until(lambda: migrations.waiting() == FOUR - 1, "three that tell that they wait")
        first.rollback()
    all_well(migrations, empty)


def test_without_the_lock_there_are_losers(empty, start, without_lock):
    """The tests here would notice: all four find no table and create it, and three are refused."""
    with empty.connect() as first:
        first.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        migrations = start(FOUR, without_lock)
        migrations.go()
        blocked(empty, FOUR)
        first.rollback()
    assert set(migrations.exit_codes()) > {0}, "one has won, others have not"


def test_three_wait_while_one_builds_an_index(empty, start):
    """A build that waits for an old transaction, and three who must neither drop its index nor pass over it."""
    schema.migrate(empty.params, to="0010_foreign_key_validate")
    with empty.connect() as writer:
        writer.execute("INSERT INTO ai_sessions (user_id) VALUES ('busy')")
        writer.execute("INSERT INTO ai_interactions (session_id, prompt, response) SELECT id, '', '' FROM ai_sessions")
        migrations = start(FOUR)
        migrations.go()
        blocked(empty, 1)
        until(lambda: migrations.waiting() == FOUR - 1, "three that tell that they wait")
        writer.commit()
    all_well(migrations, empty)


def test_whoever_waits_names_the_holder_and_goes_on_when_that_is_killed(empty, start):
    """The operator has to find out whom to ask, and a lock that outlived its holder would stop every deployment."""
    with empty.connect(autocommit=True, application_name="another rollout") as holder:
        pid = holder.info.backend_pid
        assert holder.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() == (True,)
        migration = start(1)
        migration.go()
        until(migration.waiting, "a migration that tells that it waits")
        assert f"pid {pid} (another rollout)" in migration.texts()[0]
        assert not migration.worked()
        empty.rows("SELECT pg_terminate_backend(%s)", pid)
        assert migration.exit_codes() == [0]
    assert migration.texts()[0].count("Waiting") == 1
    assert empty.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_the_lock_of_another_database_is_not_waited_for(start, database):
    """One server serves many; each is migrated by itself."""
    with database.connect(autocommit=True) as holder:
        assert holder.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() == (True,)
        migration = start(1)
        migration.go()
        assert migration.exit_codes() == [0]
        assert not migration.waiting()


def test_a_migration_that_fails_lets_the_lock_go(empty):
    """The connection may be one that the caller keeps: the next attempt over another must not wait for ever."""
    schema.migrate(empty.params, to="0009_repair_orphans")
    empty.rows(
        "SET session_replication_role = replica; INSERT INTO ai_interactions (session_id, prompt, response) "
        "VALUES (gen_random_uuid(), '', ''); ALTER TABLE ai_interactions DROP CONSTRAINT "
        "ai_interactions_session_id_fkey, ADD CONSTRAINT ai_interactions_session_id_fkey FOREIGN KEY (session_id) "
        "REFERENCES ai_sessions NOT VALID"
    )
    config = Config()
    config.set_main_option("script_location", str(folders.bundled("migrations")))
    engine = sa.create_engine("postgresql+psycopg://", creator=empty.connect, poolclass=sa.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(sa.exc.IntegrityError):
            command.upgrade(config, "head")
        assert empty.rows("SELECT pg_try_advisory_lock(%s)", LOCK) == [(True,)]


@pytest.mark.parametrize("revision", INDEXES)
def test_an_index_that_a_cut_short_build_left_is_built_anew(empty, revision):
    """IF NOT EXISTS would pass over it, and the version would say that it is there."""
    revisions = objects.revisions()
    schema.migrate(empty.params, to=revisions[revisions.index(revision) - 1])
    name, _, place = INDEXES[revision].partition(" ")
    with empty.connect() as writer, empty.connect(autocommit=True) as builder:
        writer.execute(f"LOCK {place.split()[1]} IN ROW EXCLUSIVE MODE")
        builder.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(f"CREATE INDEX CONCURRENTLY {name} {place}")
    is_valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass"
    assert empty.rows(is_valid, name) == [(False,)]
    schema.migrate(empty.params, to=revision)
    with empty.connect() as connection:
        assert objects.read(connection) == objects.of_revision(revision)
