"""An audit of a test's database, through its facts or as the command, and roles that may do less than its owner.

A server of its own with a replica, too.
"""

import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix.database import Database
from session_fix.rollout import audit, facts, objects, revisions
from session_fix.servers import embedded

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
PROGRAM = Path(sys.executable).parent / "session-fix"


@pytest.fixture
def audited(database):
    """Return a function that audits the test's database, as its owner or with other parameters."""

    def look(params=None, **options):
        return audit.judge(facts.read(database.params | (params or {}), **options), objects.revisions())

    return look


@pytest.fixture
def found(audited):
    """Return a function that returns the findings of an audit by their ids, those of INFO left out."""

    def look(params=None, **options):
        return {one.id: one for one in audited(params, **options).findings if one.severity != "info"}

    return look


@pytest.fixture
def role(database, sql_on, session_fix_stack):
    """Return a function that makes a role that owns nothing and returns how it logs in; all are dropped with the test.

    As on Supabase, no policy binds it.
    """
    run = sql_on(session_fix_stack.databases.server)
    made = []

    def make(*statements):
        name, password = f"auditor_{secrets.token_hex(4)}", secrets.token_hex(8)
        run(sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
        made.append(name)
        for statement in statements:
            database.rows(statement.format(role=name))
        return {"user": name, "password": password}

    yield make
    for name in made:
        database.rows(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        run(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def command(tmp_path):
    """Return a function that runs ``session-fix audit`` on a DSN and returns its exit code, output and JSON."""

    def run(dsn, *arguments):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
        if dsn is not None:
            env["AUDITED"] = dsn if isinstance(dsn, str) else make_conninfo(**dsn)
        report = tmp_path / "audit.json"
        done = subprocess.run(
            [PROGRAM, "audit", "--dsn-variable", "AUDITED", "--json", report, *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return done, json.loads(report.read_text(encoding="utf-8")) if report.exists() else None

    return run


@pytest.fixture(scope="session")
def migrated():
    """Return a function that migrates an empty database to a revision, and returns it; faster than Alembic would."""

    def migrate(database, revision):
        with database.connect(autocommit=True) as connection:
            connection.execute("SET TimeZone TO 'UTC'")
            for one in revisions.chain()[: ["", *objects.revisions()].index(revision)]:
                with nullcontext() if one.up.concurrently else connection.transaction():
                    for statement in (*one.up.statements, *one.up.notes):
                        connection.execute(statement)
        return database

    return migrate


@pytest.fixture
def pair(migrated):
    """Yield a primary before its last two revisions, and a replica that takes in what it is sent."""
    with ExitStack() as running:
        server, process = running.enter_context(embedded.start())
        migrated(Database("postgres", server.admin | {"dbname": "postgres"}), objects.revisions()[-3])
        os.kill(process.pid, signal.SIGINT)  # all sessions end, all is written
        process.wait_until(process.exit_code, timeout_s=60, doing="stopping")

        def start(**files):
            cluster = running.enter_context(tempfile.TemporaryFile())
            _pack(process.folder / embedded.DATA, cluster, files)
            cluster.seek(0)
            server, _ = running.enter_context(embedded.start(cluster=cluster, durable=True))
            return Database("postgres", server.admin | {"dbname": "postgres"})

        primary = start()
        source = f"host={primary.params['host']} port=5432 user=postgres application_name=reports"
        yield primary, start(**{"standby.signal": "", "postgresql.auto.conf": f"primary_conninfo = '{source}'"})


@pytest.fixture
def paused(pair, eventually):
    """Return a function that keeps the replica from taking in more, and writes something that it will not have."""
    primary, replica = pair
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))

    def pause():
        replica.rows("SELECT pg_wal_replay_pause()")
        eventually(lambda: replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
        primary.rows("CREATE TABLE IF NOT EXISTS written (id int)")
        primary.rows("INSERT INTO written VALUES (1)")

    return pause


def _pack(data, file, files):
    """Write a cluster, some files anew, and its databases at the end: a server is started once those are there."""

    def rank(path):
        return 0 if not path.startswith("base/") else 1 if path.startswith(f"{embedded.FIRST}/") else 2

    paths = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() or path.is_dir())
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in files.items():
            added = tarfile.TarInfo(name)
            added.size = len(text)
            tar.addfile(added, io.BytesIO(text.encode()))
        for path in sorted(set(paths) - set(files), key=lambda path: (rank(path), path)):
            tar.add(data / path, path, recursive=False)
