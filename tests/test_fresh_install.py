"""What a newcomer does: the README's commands in a fresh checkout, then the installed package from elsewhere."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 900
VERDICTS = (
    "before      expected 500 and 23503",
    "documented  expected 200, stored",
    "fixed       expected 200, stored",
)

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


def shell_blocks():
    """Return the README's fenced ``sh`` blocks, which .ci/run runs too."""
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run(command, folder, **env):
    """Run a command, or a line of shell, as a newcomer would: without this run's environment variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "TOX_", "VIRTUAL_ENV"))}
    line = isinstance(command, str)
    return subprocess.run(
        ["bash", "-ec", command] if line else command,
        cwd=folder,
        env=kept | env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """Return a copy of what git would give: tracked files, and new ones that are not ignored."""
    folder = tmp_path_factory.mktemp("fresh") / "session-fix"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def first_command(checkout):
    """Run the README's first command in the checkout, once; it makes the virtual environment that the others use."""
    return run(shell_blocks()[0], checkout)


@pytest.fixture
def installed(checkout, first_command):
    """Return the folder of the commands that the first command installed."""
    assert first_command.returncode == 0, first_command.stderr
    return checkout / ".venv" / "bin"


def test_the_first_command_ends_with_three_verdicts(first_command):
    """The README promises it, and it is the first thing anybody tries."""
    lines = first_command.stdout.splitlines()[-3:]
    assert first_command.returncode == 0, first_command.stderr
    assert all(line.startswith(verdict) and line.endswith("ok") for line, verdict in zip(lines, VERDICTS, strict=True))


def test_the_second_command_runs_the_tests(checkout, installed):  # noqa: ARG001  it needs the first's environment
    """As the README has it, but on one file: the whole suite holds this test, too."""
    done = run(shell_blocks()[1], checkout, PYTEST_ADDOPTS="tests/test_events.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_the_installed_package_replays_in_an_empty_folder(installed, tmp_path):
    """The wheel carries everything: migrations, services, the data API's server."""
    where = run([installed / "python", "-c", "import session_fix; print(session_fix.__path__)"], tmp_path)
    assert "site-packages" in where.stdout
    assert str(ROOT) not in where.stdout
    done = run([installed / "session-fix", "replay", "before", "--junit", "replay.xml"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["replay.xml"], "it left something behind"
    assert ET.parse(tmp_path / "replay.xml").getroot()[0].attrib["tests"] == "1"


def test_the_plugin_serves_a_project_outside_this_repository(installed, tmp_path):
    """The fixtures that the README shows, in somebody else's project, for somebody else's service."""
    (tmp_path / "test_theirs.py").write_text(
        "def test_first_query(frontend, supabase, postgres, database, service):\n"
        "    session_id = frontend.create_session().session_id\n"
        '    assert frontend.query(session_id, "hello").status == 200\n'
        '    assert supabase.client().table("ai_interactions").select("id").execute().data\n'
        '    assert postgres.kind == "embedded" and database.dsn and service.sqlstates() == []\n'
    )
    options = ("-q", "-p", "no:cacheprovider", "-W", "error")
    done = run([installed / "python", "-m", "pytest", *options, "--session-fix-service", "documented"], tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    done = run([installed / "python", "-m", "pytest", *options, "--session-fix-service", "before"], tmp_path)
    assert done.returncode == 1
    assert "23503 foreign_key_violation" in done.stdout, "the failed test does not show its record"


def test_the_bundled_scenarios_find_the_bug_in_a_backend_of_that_name(checkout, installed, tmp_path):
    """The gate that the documents show must not be green for a backend that has the bug."""
    shutil.copytree(checkout / "service" / "before", tmp_path / "backend")
    shutil.copytree(checkout / "service" / "backend_common", tmp_path / "backend_common")
    options = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "auto_generated_id or first_query",
        "--session-fix-service",
        "backend",
    )
    done = run([installed / "python", "-m", "pytest", "--pyargs", "session_fix.scenarios", *options], tmp_path)
    assert (done.returncode, "1 failed, 1 passed" in done.stdout) == (1, True), done.stdout + done.stderr
