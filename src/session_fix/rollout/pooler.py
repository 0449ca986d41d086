"""Whether a pooler in transaction mode is in between: there, one session is another from statement to statement.

A port alone says little. So one session asks who it is, again and again, while another keeps whoever answered it last
busy with a transaction: a pooler then hands the first to another server process, or lets it wait for the only one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress

import psycopg

from session_fix.errors import DatabaseUnreadableError
from session_fix.rollout import sessions

ROUNDS = 20
ANSWER_S = 5.0
SETTING = "session_fix.probe"
WHO = f"SELECT pg_backend_pid(), current_setting('{SETTING}', true)"


def signs(params: Mapping[str, str], *, rounds: int = ROUNDS) -> list[str]:
    """Return what shows that a session of ours is not one of the server's; [] for a direct way, or session mode.

    Raises ``RolloutRefusedError`` when timeouts do not reach the server, ``DatabaseUnreadableError``.
    """
    with sessions.opened(params, "probe") as session, ThreadPoolExecutor(1) as asking:
        try:
            other = sessions.opened(params, "probe")
        except DatabaseUnreadableError:
            return ["a second session beside the first cannot be had, and a rollout needs three"]
        with other:
            session.execute("SELECT set_config(%s, %s, false)", (SETTING, secret := secrets.token_hex(8)))
            try:
                return _compared(session, other, asking, secret, rounds)
            finally:
                with suppress(psycopg.Error):
                    session.execute(f"RESET {SETTING}")


def _compared(
    session: psycopg.Connection, other: psycopg.Connection, asking: ThreadPoolExecutor, secret: str, rounds: int
) -> list[str]:
    seen: set[tuple[int, str]] = {_answer(session)}
    for _ in range(rounds):
        other.execute("BEGIN READ ONLY")
        try:
            seen.add(asking.submit(_answer, session).result(ANSWER_S))
        except TooLate:
            return ["a session waits while another has a transaction open"]
        except psycopg.Error as error:
            return [f"a session is ended while another has a transaction open ({error.sqlstate or 'no SQLSTATE'})"]
        finally:
            with suppress(psycopg.Error):
                other.execute("ROLLBACK")
    pids, settings = {pid for pid, _ in seen}, {setting for _, setting in seen}
    found = []
    if len(pids) > 1:
        found.append(f"{len(pids)} server processes answered one session in turn")
    if settings != {secret}:
        found.append("a setting of the session was forgotten from one statement to the next")
    return found


def _answer(session: psycopg.Connection) -> tuple[int, str]:
    row = session.execute(WHO).fetchone()
    assert row  # noqa: S101  a SELECT without FROM has one
    return row[0], row[1]
