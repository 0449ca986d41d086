"""A failed test's database, from the failure to the day it is opened again: what is kept, said, and found in it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from session_fix import kept, states
from session_fix.rest import node

PROGRAM = Path(sys.executable).parent / "session-fix"
TIMEOUT_S = 120
STATE = states.state("production_after_the_bug", size=20)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
REOPEN = re.compile(r"session-fix up --database (\w+)")
MODULE = """
import pytest

ROW = "INSERT INTO ai_sessions (id, user_id) VALUES (gen_random_uuid(), %s)"

def test_passes(database):
    database.rows(ROW, "of a test that passed")

def test_fails(database, supabase):
    database.rows(ROW, "of a test that failed")
    supabase.client().table("ai_sessions").select("id").execute()
    assert False, "on purpose"

@pytest.fixture
def breaks(database):
    database.rows(ROW, "of a fixture")
    raise RuntimeError("on purpose")

def test_whose_fixture_fails(database, breaks):
    pass

@pytest.fixture
def breaks_at_its_end(database):
    yield
    raise RuntimeError("too late")

def test_whose_teardown_fails(breaks_at_its_end):
    pass

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail(database):
    assert False

def test_that_has_no_database():
    assert False

@pytest.mark.state("production_after_the_bug", size=20)
def test_of_a_state(database):
    assert database.rows("SELECT count(*) FROM ai_sessions")[0][0] > 10
    database.rows(ROW, "beside the state's")
    assert False, "on purpose"

@pytest.mark.database(reset="truncate")
@pytest.mark.parametrize("fails", [True, False])
def test_truncated(database, fails):
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
    database.rows(ROW, "shared")
    assert not fails

@pytest.mark.database(scope="module")
@pytest.mark.parametrize("number", [0, 1])
def test_shared(database, number):
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(number,)]
    database.rows(ROW, "shared")
"""
KEPT = ["test_fails", "test_whose_fixture_fails", "test_of_a_state", "test_truncated[True]"]
ALL_FAIL = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(database, number):
    database.rows("CREATE TABLE number_%d ()" % number)
    assert False, "on purpose"
"""


@dataclass
class Project:
    """Somebody's project, with a cache of its own."""

    folder: Path

    @property
    def env(self):
        """An environment that neither colours nor steers."""
        away = ("PYTEST_", "SESSION_FIX_", "SUPABASE_", "COLUMNS")
        kept_of_it = {name: value for name, value in os.environ.items() if not name.startswith(away)}
        cache = {"SESSION_FIX_CACHE": str(self.folder / "cache")}
        return kept_of_it | cache | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}

    def run(self, *command):
        """Run a command to its end."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )

    def pytest(self, module, *options):
        """Run pytest on one module."""
        (self.folder / "test_module.py").write_text(module)
        return self.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options)

    def kept(self):
        """Return what is kept, the oldest first."""
        return list(reversed(kept.listed()))

    @contextmanager
    def up(self, *arguments):
        """Yield what `session-fix up` prints, while it runs."""
        with subprocess.Popen(
            [PROGRAM, "up", *arguments], cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                lines = iter(process.stdout.readline, "")
                printed = "".join(line for line in until_the_last(lines))
                assert "The database:" in printed, printed
                yield printed
            finally:
                process.send_signal(signal.SIGINT)


def until_the_last(lines):
    """Yield lines up to the one after the last title."""
    for line in lines:
        yield line
        if line.startswith("The database:"):
            yield next(lines)
            return


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project with a cache of its own, to which the data API's packages are linked."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "cache").mkdir()
    if node.is_installed(node.home()):
        (folder / "cache" / node.home().name).symlink_to(node.home())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_FIX_CACHE", str(folder / "cache"))
        yield Project(folder)


@pytest.fixture(scope="module")
def failed(project):
    """Run tests that fail in different ways; return the finished process."""
    kept.clear()
    return project.pytest(MODULE)


@pytest.fixture(scope="module")
def one_of(failed, project):
    """Return what was kept, by the test it is from."""
    assert failed.returncode == 1
    return {one.test.rpartition("::")[2]: one for one in project.kept()}


def words(line):
    """Return the libpq parameters of a printed ``psql`` line, and its program."""
    program, conninfo = shlex.split(line)
    return program, psycopg.conninfo.conninfo_to_dict(conninfo)


def printed_after(printed, title):
    """Return the line below a title."""
    return printed.partition(f"{title}:\n")[2].partition("\n")[0].strip()


def test_what_failed_is_kept_and_nothing_else(failed, one_of):
    """What passed is in nobody's way, and what fails as expected tells nothing new."""
    assert list(one_of) == KEPT, failed.stdout
    assert "4 failed" in failed.stdout
    assert "2 errors" in failed.stdout


def test_each_failure_says_how_to_open_its_database(failed, one_of):
    """Once each, beside the failure: nobody searches a cache."""
    assert REOPEN.findall(failed.stdout) == [
        one_of[name].name for name in ("test_whose_fixture_fails", *[name for name in KEPT if "fixture" not in name])
    ]


def test_a_failure_says_how_to_look_while_the_test_waits(failed, one_of):
    """With --pdb the database is still there, and psql with its socket is what everybody knows."""
    lines = [line for line in failed.stdout.splitlines() if re.match(r"\S*psql ", line)]
    assert len(lines) == len(one_of)
    programs, params = zip(*map(words, lines), strict=True)
    assert all(os.access(program, os.X_OK) for program in programs)
    assert {set(found) >= {"host", "port", "user", "dbname"} for found in params} == {True}
    assert re.search(r"^http://127\.0\.0\.1:\d+/sf_\w+$", failed.stdout, re.MULTILINE), "one used the data API"


def test_no_password_and_no_key_is_printed(failed):
    """Logs of CI are public more often than one thinks."""
    for secret in ("password", "sb_secret", "sb_publishable", "eyJ"):
        assert secret not in failed.stdout + failed.stderr


def test_a_kept_database_is_opened_again_with_its_rows(project, one_of):
    """Days later, on another server, in SQL and through the data API alike."""
    one = one_of["test_whose_fixture_fails"]
    with project.up("before", "--database", one.name) as printed:
        assert f"as {one.test} left it" in printed
        _, params = words(printed_after(printed, "The database"))
        with psycopg.connect(**params) as connection:
            assert connection.execute("SELECT user_id FROM ai_sessions").fetchall() == [("of a fixture",)]
        assert [row["user_id"] for row in through_the_data_api(printed)] == ["of a fixture"]


def through_the_data_api(printed):
    """Do what the printed ``curl`` line does; return the rows."""
    line = shlex.split(printed_after(printed, "Read the sessions through it"))
    headers = dict(line[index + 1].split(": ", 1) for index, word in enumerate(line) if word == "-H")
    (url,) = [word for word in line if word.startswith("http://")]
    with DIRECT.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:  # noqa: S310  it printed that
        return json.load(answer)


def test_a_state_is_there_to_look_at(project, one_of):
    """The same rows that a test of that state had, without its own."""
    with project.up("--state", STATE.name, "--size", str(STATE.size)) as printed:
        assert "as test" not in printed
        _, params = words(printed_after(printed, "The database"))
        with psycopg.connect(**params) as connection:
            shown = {user for (user,) in connection.execute("SELECT user_id FROM ai_sessions")}
        assert {row["user_id"] for row in through_the_data_api(printed)} == shown
        assert len(shown) > 10
        with project.up("--database", one_of["test_of_a_state"].name) as again:
            users = {row["user_id"] for row in through_the_data_api(again)}
    assert users == shown | {"beside the state's"}


def test_the_last_failures_stay_whichever_worker_had_them(project, failed):
    """Workers keep side by side in one cache, and say so in one report."""
    assert failed.returncode == 1
    done = project.pytest(ALL_FAIL, "-n", "2", "--session-fix-keep-failed", "2")
    assert "4 failed" in done.stdout, done.stdout + done.stderr
    said = REOPEN.findall(done.stdout)
    assert len(set(said)) == 4
    assert {one.name for one in project.kept()} < set(said)
    assert len(project.kept()) == 2
    none = project.pytest(ALL_FAIL, "--session-fix-keep-failed", "0")
    assert "4 failed" in none.stdout
    assert REOPEN.findall(none.stdout) == []
    assert {one.name for one in project.kept()} < set(said), "what earlier runs kept is not its business"
    assert len(project.kept()) == 2
    kept.clear()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--database", "test_fals"], "No database 'test_fals' is kept"),
        (["--database", "a", "--state", "empty"], "--database or --state?"),
        (["--database", "a", "--size", "5"], "--size and --seed are those of a --state"),
        (["--state", "orphan"], "Did you mean orphans?"),
        (["--state", "empty", "--size", "5"], "The state empty has no size"),
        (["--state", "orphans", "--seed", "-1"], "a whole number from 0"),
        (["--database", ""], "No database '' is kept"),
        (["--state", ""], "There is no state ''"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(project, arguments, said):
    """An empty variable of a script is a mistake, too: it must not open some other database."""
    done = project.run(*("timeout", "-s", "INT", "10", PROGRAM, "up"), *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
