"""A session for a rollout has its timeouts from the first statement on, or is none."""

import psycopg
import pytest

from session_fix.errors import DatabaseUnreadableError, RolloutRefusedError
from session_fix.rollout import target


def test_the_timeouts_are_in_force(database):
    """A step without a lock_timeout stalls everybody behind it."""
    with target.writing(database.params, lock_timeout_ms=123, statement_timeout_ms=4567) as connection:
        assert connection.execute("SHOW lock_timeout").fetchone() == ("123ms",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("4567ms",)
        assert connection.autocommit


def test_a_role_that_is_read_only_by_default_is_overridden(database):
    """Whoever may write is not kept from it by a default that was meant for another tool."""
    database.rows(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with target.writing(database.params, lock_timeout_ms=0, statement_timeout_ms=0) as connection:
        connection.execute("CREATE TABLE written ()")


def test_settings_that_do_not_arrive_are_a_refusal(database, monkeypatch):
    """A pooler keeps options back: here the one for lock_timeout is left out of what is sent."""
    connect = target._connect  # noqa: SLF001  the way to the server

    def forgetful(where, wanted, application):
        return connect(where, {name: value for name, value in wanted.items() if name != "lock_timeout"}, application)

    monkeypatch.setattr(target, "_connect", forgetful)
    with pytest.raises(RolloutRefusedError, match="do not reach the server: lock_timeout"):
        target.writing(database.params, lock_timeout_ms=123, statement_timeout_ms=0)


def test_a_server_that_is_not_there_is_said_without_the_password(database):
    """The message ends in a log."""
    where = database.params | {"host": "/nowhere", "password": "canary-5e55"}
    with pytest.raises(DatabaseUnreadableError) as refused:
        target.writing(where, lock_timeout_ms=1, statement_timeout_ms=1)
    assert "canary" not in str(refused.value)
    assert not isinstance(refused.value.__cause__, psycopg.Error)
