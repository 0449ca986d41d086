"""How the tests look at what is running, at processes and servers alike, and wait for what must become of it."""

import importlib
import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from session_fix.database import fetched
from session_fix.servers import docker

LISTENING = "0A"  # Source: enum tcp states in the kernel's net/tcp_states.h
collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
POSTGRES_IMAGE = os.environ.get("SESSION_FIX_POSTGRES_IMAGE", "")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def pytest_configure(config):
    """Register the marker of tests that only Linux can answer."""
    config.addinivalue_line("markers", "needs_proc: looks into /proc, so it runs on Linux only")


def pytest_collection_modifyitems(items):
    """Skip, with the reason, what looks into /proc elsewhere."""
    for item in items:
        if "needs_proc" in item.keywords:
            item.add_marker(needs_proc)


@pytest.fixture
def eventually():
    """Return a function that polls a question until its answer is true, and returns that; it fails at the deadline."""

    def ask(question, *, of_what="", timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while not (answer := question()):
            assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {of_what or question}"
            time.sleep(0.01)
        return answer

    return ask


@pytest.fixture(scope="session")
def engine():
    """Return a client of the container engine; skip without one."""
    if why := docker.missing():
        pytest.skip(why)
    with closing(importlib.import_module("docker").from_env(timeout=30)) as client:
        yield client


@pytest.fixture(scope="session")
def image(engine):
    """Return the image to test with; skip where it is not on this machine, since pulling is not a test's business."""
    if not POSTGRES_IMAGE:
        pytest.skip("SESSION_FIX_POSTGRES_IMAGE names no image")
    if POSTGRES_IMAGE not in {tag for found in engine.images.list() for tag in found.tags}:
        pytest.skip(f"the image {POSTGRES_IMAGE} is not on this machine")
    return POSTGRES_IMAGE


@pytest.fixture
def sql_on():
    """Return a function that returns, for a server, one that runs a statement there as its owner."""
    with ExitStack() as cleanup:

        def connected(server):
            params = server.admin | {"dbname": "postgres"}
            connection = cleanup.enter_context(psycopg.connect(**params, autocommit=True))

            def run(query, *values):
                return fetched(connection.execute(query, values or None))

            return run

        yield connected


@pytest.fixture
def what_is_there(sql):
    """Return a function that lists the databases and the roles that are not PostgreSQL's own, where ``sql`` runs."""
    query = "SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"
    return lambda: {name for (name,) in sql(query)}


@pytest.fixture
def is_running():
    """Return a function that says whether a process runs; a zombie does not."""

    def ask(pid):
        command = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return bool(state) and not state.startswith("Z")

    return ask


@pytest.fixture
def descendants():
    """Return a function that lists the processes below one, itself included."""

    def ask(root):
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        parents = dict(map(int, line.split()) for line in listed.stdout.splitlines())
        found = {root}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    return ask


@pytest.fixture
def network_sockets():
    """Return a function that lists the listening TCP and all UDP sockets of processes, as (protocol, address)."""

    def ask(pids):
        held = {link for pid in pids for link in _open_sockets(pid)}
        return sorted(
            (protocol, address)
            for protocol in ("tcp", "tcp6", "udp", "udp6")
            for address, state, inode in _kernel_table(protocol)
            if inode in held and (state == LISTENING or protocol.startswith("udp"))
        )

    return ask


def _kernel_table(protocol):
    for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
        fields = line.split()
        yield _address(fields[1]), fields[3], fields[9]


def _address(written):
    """Return IPv4 as usual; anything else as the kernel writes it."""
    address = written.split(":")[0]
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if len(address) == 8 else address


def _open_sockets(pid):
    try:
        descriptors = list(os.scandir(f"/proc/{pid}/fd"))
    except OSError:  # it has ended
        return
    for descriptor in descriptors:
        try:
            link = str(Path(descriptor.path).readlink())
        except OSError:  # closed since
            continue
        if link.startswith("socket:["):
            yield link[8:-1]
