"""The tests that every contender runs. The same ids each time: whoever leaves rows behind fails the next test."""

import time

SESSION = "5e551077-0000-4000-8000-000000000001"
INTERACTION = "17e6ac71-0000-4000-8000-000000000001"
BODY_S = 0.01


def store(database):
    """Store a session and its interaction, and commit. What the peers give is the connection itself."""
    connection = getattr(database, "connection", database)
    connection.execute("INSERT INTO ai_sessions (id) VALUES (%s)", [SESSION])
    connection.execute(
        "INSERT INTO ai_interactions (id, session_id, prompt, response) VALUES (%s, %s, 'prompt', 'response')",
        [INTERACTION, SESSION],
    )
    connection.commit()


def test_empty():
    """Do nothing: what pytest itself takes."""


def test_waits():
    """Take ten milliseconds over something else than a database."""
    time.sleep(BODY_S)


def test_connects(database):
    """Do nothing with a connection."""


def test_stores(database):
    """Store two rows."""
    store(database)


def test_stores_and_waits(database):
    """Store two rows, and take ten milliseconds over something else."""
    store(database)
    time.sleep(BODY_S)
