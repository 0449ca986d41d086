"""States, filled into real databases of their own."""

import hashlib

import pytest

from session_fix import schema, states

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
ROWS = (
    "SELECT id, user_id, created_at, updated_at FROM ai_sessions ORDER BY id",
    "SELECT id, session_id, prompt, response, model_used, tokens_used, created_at FROM ai_interactions ORDER BY id",
)


@pytest.fixture
def unfilled(session_fix_stack):
    """Return a function that makes the database that a state is filled into; all are dropped with the test."""
    databases = session_fix_stack.databases
    databases.template()  # for the data API's roles
    made = []

    def make(chosen):
        made.append(databases.clone() if chosen.revision == states.HEAD else databases.empty())
        if chosen.revision not in (None, states.HEAD):
            schema.migrate(made[-1].params, to=chosen.revision)
        return made[-1]

    yield make
    for database in made:
        databases.drop(database)


@pytest.fixture
def build(unfilled):
    """Return a function that fills a state into a new database and returns that."""

    def filled(name, *, progress=lambda *_: None, **choices):
        chosen = states.state(name, **choices)
        database = unfilled(chosen)
        with database.connect() as connection:
            chosen.fill(connection, progress)
        return database

    return filled


@pytest.fixture
def content():
    """Return a function that hashes both tables' rows; in which order they lie is up to PostgreSQL's version."""

    def look(database):
        found = hashlib.sha256()
        with database.connect(options="-c TimeZone=UTC") as connection:
            for query in ROWS:
                with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
                    for block in copy:
                        found.update(block)
                found.update(b"\\.")
        return found.hexdigest()

    return look
