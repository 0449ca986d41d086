"""``explore`` and ``rerun`` as their users meet them: exit codes, reports, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from session_fix import cli

PROGRAM = Path(sys.executable).parent / "session-fix"
TIMEOUT_S = 120
NOT_PASSED_ON = ("PYTEST_", "SESSION_FIX_", "SUPABASE_", "PG", "COLUMNS", "FORCE_COLOR", "CLICOLOR", "TTY_")
REPORTS = ("--json", "r.json", "--junit", "r.xml")
SILENT = """
class DatabaseService:
    def create_session(self, session_id=None, user_id=None):
        return session_id

    def log_interaction(self, *args, **more):
        return True

db_service = DatabaseService()
"""


@dataclass
class Run:
    """What a command came to."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def json(self):
        """The JSON report."""
        return json.loads((self.folder / "r.json").read_text(encoding="utf-8"))

    @property
    def case(self):
        """The first case of the JUnit report."""
        return ET.parse(self.folder / "r.xml").find(".//testcase")


def environ(**more):
    """Return an environment that neither colours nor steers."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_PASSED_ON)}
    return kept | {"PYTHONIOENCODING": "utf-8"} | more


def perform(folder, *arguments, **env):
    """Run the command in ``folder`` to its end."""
    found = subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=environ(**env),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    return Run(found.returncode, found.stdout, found.stderr, folder)


@pytest.fixture(scope="module")
def racing(tmp_path_factory):
    """Explore the documented fix, on a narrow terminal that knows ASCII only."""
    env = {"COLUMNS": "60", "PYTHONIOENCODING": "ascii"}
    arguments = ("create-create", "--service", "documented", "--report-dir", "new/deep", *REPORTS)
    return perform(tmp_path_factory.mktemp("racing"), "explore", *arguments, **env)


def test_a_finding_is_exit_code_1_and_saved(racing):
    """The file is what a bug report needs."""
    assert racing.code == 1, racing.err
    assert "Traceback" not in racing.err
    assert "I5 no error for the caller" in racing.out
    assert "session-fix rerun new/deep/create-create.toml" in racing.out
    assert 'order = "A B B A"' in (racing.folder / "new" / "deep" / "create-create.toml").read_text()


def test_the_json_is_what_was_agreed(racing):
    """Whoever reads it in CI relies on its keys."""
    found = racing.json
    assert found.keys() >= {"verdict", "stack", "service", "counts", "findings"}
    assert (found["verdict"], found["service"], found["counts"]["failed"]) == ("fail", "documented", 1)
    (finding,) = found["findings"]
    assert finding.keys() == {"id", "scenario", "layer", "summary", "evidence", "rerun"}
    assert finding["id"] == "explore/create-create/database/I5"
    assert finding["rerun"] == "session-fix rerun new/deep/create-create.toml"
    assert "23505" in {event.get("sqlstate") for event in finding["evidence"]["events"]}


def test_the_junit_case_says_what_was_broken(racing):
    """CI systems show its text beside the red mark."""
    assert racing.case.get("name") == "create-create"
    assert "I5 no error for the caller" in racing.case.find("failure").text


def test_what_is_printed_fits_and_is_ascii(racing):
    """A line that wraps takes the columns apart, and a log in another encoding is still a log."""
    assert racing.out.isascii()
    assert "\x1b" not in racing.out
    calls = [line for line in racing.out.splitlines() if "ai_sessions" in line]
    assert calls
    assert max(map(len, calls)) <= 60


def test_a_saved_order_comes_to_the_same_again(racing):
    """Exactly: the same calls of the same clients, refused for the same reason."""
    again = perform(racing.folder, "rerun", "new/deep/create-create.toml", "--json", "again.json")
    assert again.code == 1, again.err
    found = json.loads((racing.folder / "again.json").read_text())
    assert found["findings"][0]["id"] == racing.json["findings"][0]["id"]
    assert found["findings"][0]["evidence"]["order"] == "A B B A"


def test_an_order_that_cannot_happen_is_exit_code_3(racing):
    """Neither good nor bad can be said of it, but where it ends can."""
    path = racing.folder / "new" / "deep" / "create-create.toml"
    edited = racing.folder / "edited.toml"
    edited.write_text(path.read_text().replace('"A B B A"', '"A A B A"'))
    run = perform(racing.folder, "rerun", "edited.toml", *REPORTS[2:])
    assert run.code == 3, run.out
    assert "All clients have finished after 3 calls; the order goes on with A." in run.out
    assert "goes on with A" in run.case.find("error").text


def test_what_holds_is_exit_code_0(tmp_path):
    """And nothing is saved where nothing was found."""
    run = perform(tmp_path, "explore", "create-create", "query-query", "--budget", "20s", *REPORTS)
    assert run.code == 0, run.out + run.err
    assert (run.json["verdict"], run.json["service"], run.json["findings"]) == ("pass", "fixed", [])
    assert run.json["counts"]["orders"] == sum(one["counts"]["orders"] for one in run.json["workloads"]) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "r.xml"}


def test_a_service_that_makes_no_call_is_exit_code_3(tmp_path):
    """It answers well and stores nothing where we look: that is no pass, and no finding either."""
    (tmp_path / "svc").mkdir()
    (tmp_path / "svc" / "database_service.py").write_text(SILENT)
    run = perform(tmp_path, "explore", "create-create", "--service", "svc", *REPORTS)
    assert run.code == 3, run.out + run.err
    assert run.json["workloads"][0]["why_inconclusive"].startswith("the service made no call to the data API")
    assert run.case.find("error") is not None


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path, descendants, is_running, eventually):
    """Whoever has seen enough gets the terminal back, and no server stays behind."""
    arguments = ["explore", "query-query-query-query", "--budget", "100000", "--layer", "logger"]
    command = subprocess.Popen(
        [PROGRAM, *arguments], cwd=tmp_path, env=environ(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with command:
        limit = threading.Timer(TIMEOUT_S, command.kill)
        limit.start()
        try:
            said = next((line for line in command.stderr if "Exploring" in line), "")
            below = descendants(command.pid)
            command.send_signal(signal.SIGINT)
            rest = command.stderr.read()
        finally:
            limit.cancel()
            command.kill()
    assert said
    assert command.returncode == 130, rest
    assert "Traceback" not in rest
    eventually(lambda: not any(map(is_running, below)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explore", "query-qurey"], "Did you mean query-query?"),
        (["explore", "create-create", "--budget", "0"], "'0' is neither a number of runs"),
        (["explore", "create-create", "--budget", "0s"], "'0s' is neither"),
        (["explore", "create-create", "--budget", "-1"], "'-1' is neither"),
        (["explore", "create-create", "--budget", "five"], "'five' is neither"),
        (["explore", "create-create", "--budget", "1.5s"], "'1.5s' is neither"),
        (["explore", "create-create", "--seed", "x"], "'x' is not a valid integer"),
        (["explore", "create-create", "--layer", "api"], "create-create makes sense at database, not at api"),
        (["explore", "create-create", "--layer", "rest"], "'rest' is not one of"),
        (["explore", "create-create", "--service", "missing"], "There is no service directory missing"),
        (["explore", "query-query-versions", "--other", "missing"], "There is no service directory missing"),
        (["explore", "create-create", "--report-dir", "file/deep"], "file is no folder that can be written to"),
        (["explore", "create-create", "--report-dir", "file"], "is a file"),
        (["explore", "create-create", "--json", "missing/r.json"], "there is no folder"),
        (["explore", "create-create", "--json", "r", "--junit", "./r"], "two reports cannot go to one file"),
        (["rerun"], "Missing argument 'FILE'"),
        (["rerun", "missing.toml"], "missing.toml cannot be read: No such file or directory"),
        (["rerun", "file"], "file is no schedule"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(tmp_path, monkeypatch, arguments, said):
    """A typing mistake costs no seconds."""
    (tmp_path / "file").write_text("nothing in TOML")
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(cli.cli, arguments)
    assert ended.exit_code == 2, ended.output
    assert said in " ".join(ended.output.split())
    assert "Importing" not in ended.output, "a step was begun"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
