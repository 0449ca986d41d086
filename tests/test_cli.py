"""The command line as its users meet it: what a replay prints and writes, and which exit code it comes to.

Each replay costs seconds, so one serves several tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

from session_fix.folders import bundled

PROGRAM = Path(sys.executable).parent / "session-fix"
TIMEOUT_S = 120
# What colours the output, moves it or chooses another stack; the runs say for themselves what they have of it.
NOT_PASSED_ON = ("PYTEST_", "SESSION_FIX_", "SUPABASE_", "PG", "COLUMNS", "FORCE_COLOR", "CLICOLOR", "TTY_")
# Each would lead to nowhere, or to something else, whoever followed it.
MISLEADING = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "PGHOSTADDR": "127.0.0.1",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGSERVICE": "nonsense",
    "COLUMNS": "80",
}
API = """
import os, uuid
from fastapi import FastAPI
from database_service import db_service

app = FastAPI()

@app.post("/session/create")
def create():
    session_id = str(uuid.uuid4())
    {create}
    return {{"session_id": session_id}}

@app.post("/smart/query")
def query(asked: dict):
    {query}
    return {{"session_id": asked["session_id"]}}
"""
STORE = "db_service.create_session(session_id=session_id)"
DIE = "print('the key is', os.environ['SUPABASE_KEY'], 'here', flush=True); os._exit(7)"


@dataclass
class Run:
    """What a replay came to: exit code, what it printed, and its two reports."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def json(self):
        """The JSON report."""
        return json.loads((self.folder / "r.json").read_text(encoding="utf-8"))

    def case(self, name):
        """Return one flow's case in the JUnit report."""
        return ET.parse(self.folder / "r.xml").find(f".//testcase[@name='{name}']")


def environ(**more):
    """Return an environment that neither colours nor steers."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_PASSED_ON)}
    return kept | {"PYTHONIOENCODING": "utf-8"} | more


def cli(folder, *arguments, **env):
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


def verdicts(run):
    """Return the lines that say what each flow came to."""
    return [line for line in run.out.splitlines() if re.match(r"\w+ +expected .* observed ", line)]


def service(folder, api):
    """Return a copy of the fixed service under ``folder``, with another API."""
    shutil.copytree(bundled("service") / "backend_common", folder / "backend_common", dirs_exist_ok=True)
    shutil.copytree(bundled("service") / "fixed", folder / "mine")
    (folder / "mine" / "api_server.py").write_text(api)
    return folder / "mine"


@pytest.fixture(scope="module")
def all_three(tmp_path_factory):
    """Replay everything that ships, in a misleading environment, into a pipe and through a symbolic link."""
    folder = tmp_path_factory.mktemp("all")
    os.mkfifo(folder / "pipe")
    (folder / "r.xml").touch()
    (folder / "link").symlink_to("r.xml")
    with (folder / "r.json").open("wb") as copy, subprocess.Popen(["cat", folder / "pipe"], stdout=copy) as reader:
        try:
            run = cli(folder, "replay", "--json", "pipe", "--junit", "link", **MISLEADING)
            reader.wait(10)
        finally:
            reader.kill()
    return run


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Replay the broken service as somebody's own."""
    folder = tmp_path_factory.mktemp("broken")
    return cli(folder, "replay", "--service", bundled("service") / "before", "--json", "r.json", "--junit", "r.xml")


@pytest.fixture(scope="module")
def dying(tmp_path_factory):
    """Replay a service that prints its key and dies when it is asked; a pyproject.toml names it."""
    folder = tmp_path_factory.mktemp("dying")
    service(folder, API.format(create=STORE, query=DIE))
    (folder / "pyproject.toml").write_text('[tool.session-fix]\nservice = "./mine"\n')
    return cli(folder, "replay", "--json", "r.json", "--junit", "r.xml")


def test_the_three_that_ship_come_to_what_is_expected_of_them(all_three):
    """It is the claim of the project, and nothing in the user's environment may lead it elsewhere."""
    assert all_three.code == 0, all_three.err
    said = [(words[0], words[-1]) for words in map(str.split, verdicts(all_three))]
    assert said == [("before", "ok"), ("documented", "ok"), ("fixed", "ok")]


def test_what_is_piped_has_no_colours(all_three):
    """Escape sequences make a log unreadable."""
    assert "\x1b" not in all_three.out + all_three.err


def test_the_diagram_is_as_wide_as_the_terminal(all_three):
    """A line that wraps takes the lanes apart."""
    drawn = [line for line in all_three.out.splitlines() if "│" in line]
    assert len(drawn) > 30
    assert max(map(len, drawn)) <= 80


def test_a_pipe_is_written_to_as_it_is(all_three):
    """``--json /dev/stdout`` must not replace the device by a file."""
    assert all_three.json["verdict"] == "pass"
    assert (all_three.folder / "pipe").is_fifo()


def test_a_link_stays_and_its_target_is_written(all_three):
    """A CI system collects the file that the link leads to."""
    assert (all_three.folder / "link").is_symlink()
    assert ET.parse(all_three.folder / "r.xml").find("testsuite").get("tests") == "3"


def test_reports_hold_no_prompt(all_three):
    """Events are kept and uploaded; what users asked is not theirs to show."""
    text = json.dumps(all_three.json)
    assert "log_interaction" in text
    assert "hello" not in text


def test_a_service_that_breaks_the_foreign_key_is_a_finding(broken):
    """The same behaviour that is expected of ``before`` is a failure of a service that has to be healthy."""
    assert broken.code == 1, broken.err
    (verdict,) = verdicts(broken)
    assert verdict.endswith("NOT OK")
    assert "status: expected 200, observed 500" in broken.out
    assert broken.json["flows"][0]["observed"]["sqlstates"] == ["23503"]


def test_a_finding_is_a_failure_in_junit(broken):
    """CI systems show its text beside the red mark."""
    failure = broken.case("before").find("failure")
    assert failure.get("message") == "status: expected 200, observed 500"
    assert "interactions: expected 1, observed 0" in failure.text


def test_a_service_that_dies_is_a_finding_with_its_last_lines(dying):
    """The crash is the service's own; the configured service is replayed without naming it."""
    assert dying.code == 1, dying.err
    assert [flow["service"] for flow in dying.json["flows"]] == ["mine"]
    assert "no answer to /smart/query" in dying.out
    assert "| the key is" in dying.out
    assert "no answer to /smart/query" in dying.case("mine").find("failure").text


@pytest.mark.parametrize("shown", ["out", "err", "r.json", "r.xml"])
def test_a_key_that_the_service_prints_is_shown_nowhere(dying, shown):
    """Logs of CI are public more often than one thinks; the service found the key in its environment."""
    text = (dying.folder / shown).read_text() if "." in shown else getattr(dying, shown)
    assert "sb_secret" not in text
    if shown in {"out", "r.xml"}:
        assert "the key is [secret] here" in text, "the check has to see the line that held it"


def test_a_service_that_cannot_be_imported_leaves_the_other_flows(tmp_path):
    """An inconclusive flow is no reason to lose what the others came to."""
    mine = service(tmp_path, "import nothing_of_that_name\n")
    run = cli(tmp_path, "replay", "fixed", "--service", mine, "--json", "r.json", "--junit", "r.xml")
    assert run.code == 3, run.err
    assert [flow["verdict"] for flow in run.json["flows"]] == ["pass", "inconclusive"]
    assert [line.split()[-1] for line in verdicts(run)] == ["ok", "INCONCLUSIVE"]
    assert "nothing_of_that_name" in run.out
    assert list(run.case("fixed")) == []
    assert "nothing_of_that_name" in run.case("mine").find("error").text


def test_a_service_that_never_asks_the_database_proves_nothing_even_to_a_closed_pipe(tmp_path):
    """``session-fix replay | head -1`` keeps its verdict and its reports, whatever became of the reader."""
    mine = service(tmp_path, API.format(create="pass", query="pass"))
    command = [PROGRAM, "replay", "--service", mine, "--json", "r.json", "--junit", "r.xml"]
    read, write = os.pipe()
    os.close(read)
    try:
        found = subprocess.run(
            command, cwd=tmp_path, env=environ(), stdout=write, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
        )
    finally:
        os.close(write)
    run = Run(found.returncode, "", found.stderr.decode(), tmp_path)
    assert run.code == 3
    assert "Traceback" not in run.err
    assert "BrokenPipe" not in run.err
    assert run.json["flows"][0]["reasons"] == ["the service made no call to the data API"]
    assert run.case("mine").find("error").get("message") == "the service made no call to the data API"


def test_a_reader_that_leaves_does_not_turn_a_finding_into_a_pass(tmp_path):
    """Whoever pipes into ``head`` with ``pipefail`` asks for the verdict."""
    command = f"set -o pipefail; '{PROGRAM}' replay --service '{bundled('service') / 'before'}' --json r.json | head -1"
    found = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environ(), capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert found.returncode == 1, found.stderr
    assert found.stdout.startswith(b"before (expected: ")
    assert found.stdout.count(b"\n") == 1
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "fail"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "fixd"], "Did you mean fixed?"),
        (["replay", "--no-such-flag"], "--no-such-flag"),
        (["replay", "--json", "missing/r.json"], "there is no folder"),
        (["replay", "--junit", "missing/r.xml"], "there is no folder"),
        (["replay", "--json", "r", "--junit", "./r"], "two reports cannot go to one file"),
        (["replay", "--service", "missing"], "There is no service directory missing"),
        (["replay", "--postgres", "external"], "SESSION_FIX_DSN"),
        (["replay", "--rest", "external"], "SESSION_FIX_SUPABASE_URL"),
        (["up", "before", "--service", "mine"], "up runs one service"),
        (["doctor", "--json", "missing/r.json"], "there is no folder"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(tmp_path, arguments, said):
    """A typing mistake costs no seconds and shows no traceback."""
    run = cli(tmp_path, *arguments)
    assert run.code == 2, run.err
    assert said in run.err
    assert "Traceback" not in run.err
    assert "..." not in run.err.replace("[VARIANT]...", ""), "a step was begun"
    assert run.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_data_api_of_somebody_elses_needs_a_server_of_theirs(tmp_path):
    """A data API can only stand in front of the server it was started for."""
    env = {"SESSION_FIX_SUPABASE_URL": "http://127.0.0.1:9", "SESSION_FIX_SUPABASE_DATABASE": "x"}
    run = cli(tmp_path, "replay", "--rest", "external", **env)
    assert run.code == 2, run.err
    assert "add --postgres external" in run.err
