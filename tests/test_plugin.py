"""The pytest plugin in somebody's project: it leaves the project's own names alone, and explains what fails."""

import os
import subprocess
import sys

import pytest

TIMEOUT_S = 120
REFUSED = "postgresql://u:canary@127.0.0.1:9/postgres"
USES_THE_STACK = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_one(database, number):
    assert database.rows("SELECT 1") == [(1,)]
"""
UNRELATED = """
import pytest

@pytest.fixture
def database():
    return "my own"

@pytest.fixture
def service():
    return "mine too"

@pytest.mark.checklist("something else")
@pytest.mark.parametrize("variant", ["a", "b"])
def test_parametrised(variant, database, service):
    assert (variant in "ab", database, service) == (True, "my own", "mine too")

class TestFixture:
    @pytest.fixture
    def variant(self):
        return "c"

    @pytest.mark.checklist("and another")
    def test_fixture(self, variant):
        assert variant == "c"
"""
FAILS = """
def test_it(frontend, service):
    session_id = frontend.create_session().session_id
    assert frontend.query(session_id, "hello").status == 418, "no teapot"
"""
SAYS_ITS_SERVER = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(4))
def test_server(postgres, number):
    worker = os.environ["PYTEST_XDIST_WORKER"]
    Path(f"server-{worker}").write_text(postgres.admin["host"])
"""
STRICT = "[pytest]\naddopts = --strict-markers\nmarkers =\n    checklist(line): of our own\nfilterwarnings = error\n"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest on one module in a project of its own; it returns the finished process."""

    def start(module, *options, **env):
        (tmp_path / "pytest.ini").write_text(STRICT)
        (tmp_path / "test_module.py").write_text(module)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SESSION_FIX_"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
            cwd=tmp_path,
            env=kept
            | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "PYTEST_ADDOPTS": "--session-fix-keep-failed=0"}
            | env,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )

    return start


def test_a_project_of_its_own_names_is_not_disturbed(run):
    """Fixtures named database, service and variant are common, and so is a marker named checklist."""
    done = run(UNRELATED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "testing checklist" not in done.stdout


def test_a_failed_test_shows_what_was_recorded_and_what_the_service_printed(run):
    """The message alone does not say which call failed in the database."""
    done = run(FAILS, "--session-fix-service", "before")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no teapot" in done.stdout
    recorded, _, printed = done.stdout.partition("session-fix: what was recorded")[2].partition(
        "session-fix: last lines"
    )
    assert "409 23503 foreign_key_violation" in recorded
    assert printed.split()[:2] == ["of", "before"]
    assert "APIError" in printed


@pytest.mark.parametrize("module", [USES_THE_STACK, UNRELATED])
def test_an_external_server_without_a_dsn_is_wrong_usage(run, module):
    """Whoever chose it has to be told which variable is missing, once, and not by every test."""
    done = run(module, "--session-fix-postgres", "external")
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert said.count("SESSION_FIX_DSN") == 1
    assert "Traceback" not in said
    assert "def session_fix" not in said


def test_without_a_server_the_run_ends_at_once_with_the_reason(run):
    """Hundreds of tests that each fail for one missing server would hide it."""
    done = run(USES_THE_STACK, "--session-fix-postgres", "external", SESSION_FIX_DSN=REFUSED)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "The PostgreSQL at 127.0.0.1 does not answer" in said
    assert "4 errors" not in said
    assert "canary" not in said


def test_without_a_server_workers_show_the_reason(run):
    """A worker that ends would be reported as crashed, and nobody would read why."""
    done = run(USES_THE_STACK, "-n", "2", "--session-fix-postgres", "external", SESSION_FIX_DSN=REFUSED)
    said = done.stdout + done.stderr
    assert done.returncode not in {0, 5}, said
    assert "The PostgreSQL at 127.0.0.1 does not answer" in said
    assert "INTERNALERROR" not in said
    assert "crashed" not in said
    assert "canary" not in said


def test_workers_share_one_server(run, tmp_path):
    """A server for each worker would cost each of them its start, and the machine its memory."""
    done = run(SAYS_ITS_SERVER, "-n", "2", "--dist", "load")
    assert done.returncode == 0, done.stdout + done.stderr
    servers = {path.name: path.read_text() for path in tmp_path.glob("server-*")}
    assert set(servers) == {"server-gw0", "server-gw1"}
    assert len(set(servers.values())) == 1
