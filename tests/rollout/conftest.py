"""An audit of a test's database, through its facts or as the command, and roles that may do less than its owner."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix.rollout import audit, facts, objects

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
