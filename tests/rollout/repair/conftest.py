"""Rows before and after, mutants of the SQL that is tested, and a repair in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.rollout import revisions
from session_fix.rollout.repair import statements

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
PROGRAM = Path(sys.executable).parent / "session-fix"
SUMS = """
SELECT (SELECT md5(string_agg(s::text, '|' ORDER BY s.id)) FROM public.ai_sessions s),
    (SELECT md5(string_agg(i::text, '|' ORDER BY i.id)) FROM public.ai_interactions i)
"""
SIX_PHANTOMS = """
INSERT INTO ai_sessions
SELECT md5('phantom' || n)::uuid, md5('stored' || n)::uuid::text, m, m
FROM generate_series(1, 6) n, (VALUES (timestamptz '2026-01-05')) t(m)
UNION ALL
SELECT md5('stored' || n)::uuid, 'anna', '2026-01-05', '2026-01-05' FROM generate_series(1, 6) n
"""
REVISIONS = ("0007_merge_phantom_sessions", "0009_repair_orphans")


@pytest.fixture
def with_phantoms():
    """Return a function that stores six phantoms in a database, and the six sessions that they stand for."""

    def store(database):
        database.rows(SIX_PHANTOMS)
        return database

    return store


@pytest.fixture
def sums():
    """Return a function that returns the checksum of all rows of either table."""
    return lambda database: database.rows(SUMS)[0]


@pytest.fixture
def sessions(database):
    """Return a function that returns what is stored of sessions: by id, the user and the two moments."""

    def look():
        with database.connect(options="-c TimeZone=UTC") as connection:
            query = "SELECT id::text, user_id::text, created_at::text, updated_at::text FROM ai_sessions"
            return {row[0]: tuple(row[1:]) for row in connection.execute(query)}

    return look


@pytest.fixture
def mutated(monkeypatch):
    """Return a function that puts other words in place of some in the SQL; they must be there."""

    def change(name, *pairs):
        original = statements.text
        changed = original(name)
        for old, new in pairs:
            assert old in changed, f"{name}.sql does not hold {old!r}, so the mutant is none"
            changed = changed.replace(old, new)
        monkeypatch.setattr(statements, "text", lambda one: changed if one == name else original(one))

    return change


@pytest.fixture
def by_revisions():
    """Return a function that runs the two revisions' own statements on a database."""

    def run(database):
        found = {one.id: one for one in revisions.chain()}
        with database.connect(autocommit=True) as connection:
            for name in REVISIONS:
                with connection.transaction():
                    for statement in found[name].up.statements:
                        connection.execute(statement.encode())

    return run


@pytest.fixture
def command(tmp_path):
    """Return a function that runs ``session-fix repair`` on a database; of the environment it gets only the DSN."""

    def run(params, *arguments, timeout_s=60):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
        env["REPAIRED"] = make_conninfo(**params)
        return subprocess.run(
            [PROGRAM, "repair", "--dsn-variable", "REPAIRED", *map(str, arguments)],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )

    return run
