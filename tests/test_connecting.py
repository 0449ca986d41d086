"""A service of the user's, named in PGSERVICE, is for the user's own connections: ours lead where they should."""

import os
import shlex
import subprocess
import threading

import psycopg
import pytest

from session_fix import connecting, kept, stack, up
from session_fix.progress import SILENT
from session_fix.settings import Settings

THEIRS = """[theirs]
host=db.example.com
port=9
user=nobody_there
dbname=theirs
requirepeer=nobody_there
"""


@pytest.fixture(params=["nonsense", "theirs"])
def service(request, tmp_path, monkeypatch):
    """Name a service in the environment, one that is nowhere and one that leads elsewhere; return its name."""
    (tmp_path / "services.conf").write_text(THEIRS)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    monkeypatch.setenv("PGSERVICE", request.param)
    return request.param


def test_a_whole_run_leads_where_it_should(service, tmp_path, monkeypatch):
    """Server, template, private database, open connection, archive: each is a connection of its own."""
    settings = Settings()
    with stack.start(settings, stack.new_keys(settings), progress=SILENT) as running:
        monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
        server = running.databases.server
        for _ in range(2):
            with running.lend("recycle") as database:
                assert database.connection.info.host == server.admin["host"]
                database.rows("INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())")
                one = kept.keep(database, server=server, test="t.py::test_it", limit=5)
        with running.reopened(one) as (again, _):
            assert again.rows("SELECT count(*) FROM ai_sessions") == [(1,)]
        with pytest.raises(psycopg.OperationalError), psycopg.connect(again.dsn):
            pass
    assert set(running.private.ended) == {"recycled"}
    assert os.environ["PGSERVICE"] == service, "the user's own connections need it"


@pytest.mark.usefixtures("service")
def test_the_printed_psql_line_leads_where_it_should(session_fix_stack, session_fix_settings):
    """It is pasted into a terminal with the same environment."""
    with session_fix_stack.database() as database:
        words = shlex.split(up.psql_line(session_fix_settings, database))
        if "/psql" not in " ".join(words):
            pytest.skip("this server comes without a psql")
        command = [*words, "--no-psqlrc", "--tuples-only", "--command=SELECT current_database()"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (database.name, "")


def test_it_is_back_when_the_last_of_several_threads_is_done(monkeypatch):
    """Who is done first must not put it back for the others, nor the last forget it."""
    monkeypatch.setenv("MINE", "mine")
    mine = connecting.LeftOut("MINE")
    inside, may_leave = threading.Event(), threading.Event()

    def stay():
        with mine:
            inside.set()
            assert may_leave.wait(20)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(20)
    with mine:
        assert "MINE" not in os.environ
    assert "MINE" not in os.environ
    may_leave.set()
    thread.join()
    assert os.environ["MINE"] == "mine"
