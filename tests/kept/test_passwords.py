"""The password of the server is given to the programs that keep and open a database, and shown to nobody."""

import contextlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from session_fix import kept
from session_fix.databases import Database
from session_fix.errors import ArchiveError

CANARY = "canary-in-the-cellar"


@pytest.fixture
def guarded(here, database, eventually):
    """Return the database as a superuser sees it whom the server asks for a password."""
    name = f"asked_{secrets.token_hex(3)}"
    here.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{CANARY}'")
    rules = here.folder / "data/pg_hba.conf"
    rules.write_text(f"local all {name} scram-sha-256\n{rules.read_text()}")
    here.sql("SELECT pg_reload_conf()")
    params = database.params | {"user": name}

    def is_asked():
        try:
            psycopg.connect(**params).close()
        except psycopg.OperationalError:
            return True
        return False

    eventually(is_asked)
    return Database(database.name, params | {"password": CANARY})


@pytest.mark.needs_proc
def test_the_password_is_given_but_not_shown(here, database, guarded, eventually):
    """`ps` shows everybody the arguments of a process, and archives travel."""
    with ThreadPoolExecutor(1) as pool:
        with here.dumps_held_up(database) as waiting:
            keeping = pool.submit(here.keep, guarded)
            eventually(waiting)
            dumps = [
                process
                for process in Path("/proc").glob("[0-9]*")
                if b"pg_dump\0" in _content(process / "cmdline") and CANARY.encode() in _content(process / "environ")
            ]
            assert len(dumps) == 1
            assert CANARY.encode() not in _content(dumps[0] / "cmdline")
        one = keeping.result(30)
    assert CANARY not in repr(one)
    assert [file for file in one.path.parent.iterdir() if CANARY.encode() in file.read_bytes()] == []


def _content(file):
    """Return what is in a file of /proc, nothing when its process has ended."""
    with contextlib.suppress(OSError):
        return file.read_bytes()
    return b""


def test_a_wrong_password_is_an_error_that_does_not_show_it(here, guarded):
    """Reports of tests are read by many."""
    wrong = Database(guarded.name, guarded.params | {"password": "wrong-canary"})
    with pytest.raises(ArchiveError, match="password authentication failed") as raised:
        here.keep(wrong)
    assert "wrong-canary" not in str(raised.value)


def test_a_database_that_is_not_empty_stays_as_it_was(here, guarded):
    """All or nothing; and the words of pg_restore, which name the table here, are shown without the password."""
    guarded.rows(f'CREATE TABLE "{CANARY}" ()')
    one = here.keep(guarded)
    other = here.databases.empty()
    other.rows(f'CREATE TABLE "{CANARY}" ()')
    with pytest.raises(ArchiveError, match=rf"(?s){one.name} cannot be opened.*\[secret\]. already exists") as raised:
        kept.restore(one, other.params | {"user": guarded.params["user"], "password": CANARY})
    assert CANARY not in str(raised.value)
    assert other.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [(CANARY,)]
