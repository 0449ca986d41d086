"""Programs that own a server and are killed with it, or run as somebody else."""

import os
import select
import shutil
import subprocess
import sys

import pytest

from session_fix.servers import embedded

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
ANSWER_TIMEOUT_S = 60
TELLS_ITS_FOLDER = """
import contextlib
from session_fix import folders
make = folders.run_folder

@contextlib.contextmanager
def told(name):
    with make(name) as folder:
        print(folder.path, flush=True)
        yield folder

folders.run_folder = told
"""


@pytest.fixture
def owner():
    """Return a function that starts a program which says lines; whatever still runs is killed with the test."""
    owners = []

    def start(*command):
        owners.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
        return owners[-1]

    yield start
    for process in owners:
        with process:
            process.kill()


@pytest.fixture
def said():
    """Return a function that returns the next line a program printed, and fails when none comes."""

    def read(process):
        ready, _, _ = select.select([process.stdout], [], [], ANSWER_TIMEOUT_S)
        line = process.stdout.readline().decode().strip() if ready else ""
        assert line, f"it said nothing; exit code {process.poll()}"
        return line

    return read


@pytest.fixture
def tells_its_folder(owner):
    """Return a function that starts a Python script which first says the folder of the server it starts."""
    return lambda script, *arguments: owner(sys.executable, "-c", TELLS_ITS_FOLDER + script, *arguments)


@pytest.fixture
def as_nobody(owner):
    """Return a function that starts a Python script as an ordinary user; skip where root cannot become one."""
    if os.geteuid() != 0:
        pytest.skip("every other test here runs as an ordinary user already")
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv, of util-linux")
    # The capability lets the other user read an interpreter under /root; PostgreSQL gets binaries it can reach anyway.
    user = ("--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=+dac_read_search")
    setpriv = ("setpriv", *user, "--ambient-caps=+dac_read_search")
    if subprocess.run([*setpriv, "true"], check=False).returncode:
        pytest.skip("this container does not let setpriv pass a capability on")
    binaries = embedded._reachable(embedded.binaries("18"), embedded._server_user())  # noqa: SLF001
    reach = f"""
from pathlib import Path
from session_fix.servers import embedded
embedded.binaries = lambda _: Path({str(binaries)!r})
"""
    return lambda script: owner(*setpriv, sys.executable, "-c", reach + script)
