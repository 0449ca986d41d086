"""What is kept between runs, on the command line: listed as it is, cleared to the last of it, and made again."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from session_fix import cached, kept
from session_fix.rest import node
from session_fix.servers import clusters

PROGRAM = Path(sys.executable).parent / "session-fix"
TIMEOUT_S = 120
NOT_PASSED_ON = ("PYTEST_", "SESSION_FIX_", "SUPABASE_", "COLUMNS", "FORCE_COLOR")
TEST = "tests/test_flow.py::test_first_query"
INSTALLED = node.home().name


@pytest.fixture(scope="module")
def packages():
    """Return the folder of the data API's packages in the user's own cache, to be linked to and never changed."""
    folder = node.home()
    if not node.is_installed(folder):
        pytest.skip("the data API's packages are not installed; a replay installs them")
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Lead everything to a cache of this test alone; return its folder, which is not there yet."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path, folder):
    """Return a function that runs the command line on that cache; it returns the finished process."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}

    def start(*arguments, **more):
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=tmp_path,
            env=env | {"SESSION_FIX_CACHE": str(folder)} | more,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )

    return start


def installed():
    """Make a folder as the data API's packages are in."""
    home = node.home()
    (home / "node_modules/lite").mkdir(parents=True)
    (home / "node_modules/lite/index.js").write_bytes(b"x" * 3_000_000)
    (home / "node_modules/again").symlink_to("lite")
    (home / node.FINISHED).touch()
    return home


def initialised(number=1):
    """Make an entry as a cluster is in; return its path."""
    with clusters.opened("PostgreSQL", {"number": number}, lambda target: target.truncate(2_000_000)) as found:
        return Path(found.name)


@pytest.fixture
def failed(session_fix_stack):
    """Return a function that keeps a database as a failed test does."""

    def keep():
        with session_fix_stack.database() as database:
            return kept.keep(database, server=session_fix_stack.databases.server, test=TEST, limit=5)

    return keep


@pytest.fixture
def full(failed):
    """Keep one of each kind; return their names."""
    return [installed().name, initialised().stem, failed().name]


def test_an_empty_cache_is_said_to_be_empty(run, tmp_path):
    """It is what somebody sees who has only just installed it."""
    for action in ([], ["show"], ["clear"]):
        done = run("cache", *action, "--json", "found.json")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split()[:2] == ["0.0", "MB"]
        assert done.stdout.count("\n") == 1
        assert json.loads((tmp_path / "found.json").read_text()) == []


def test_everything_kept_is_listed_with_its_size(run, full, folder, tmp_path):
    """Whoever looks for what fills the disk has to find it, by kind and name."""
    done = run("cache", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    kinds = [cached.PACKAGES, cached.CLUSTER, cached.FAILED]
    assert [(entry["kind"], entry["name"]) for entry in found] == list(zip(kinds, full, strict=True))
    lines = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines] == [*full, str(folder)]
    assert [line.split()[0] for line in lines[:2]] == ["3.0", "2.0"]
    assert [entry["size_bytes"] for entry in found[:2]] == [3_000_000, 2_000_000]  # a link leads to what is counted
    archive = folder / "kept" / full[2] / kept.ARCHIVE
    assert found[2]["size_bytes"] == archive.stat().st_size > 0


def test_when_it_was_last_used_is_listed(run, tmp_path):
    """What nobody used for months can go."""
    path = initialised()
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert run("cache", "--json", "found.json", TZ="UTC").stdout.split()[2:4] == ["2001-09-09", "01:46"]
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert datetime.fromisoformat(found["used"]) == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


def test_looking_changes_nothing(run, full, folder):
    """To look at a cluster is not to use it."""
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}
    assert run("cache").returncode == 0
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()} == before
    assert len(full) == 3


def test_clear_removes_and_says_all_of_it(run, full, folder, tmp_path):
    """Half of a cleared cache would be the half that was wrong."""
    (folder / "somebody-elses").write_text("not ours")
    done = run("cache", "clear", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    assert [entry["name"] for entry in json.loads((tmp_path / "found.json").read_text())] == full
    assert "removed from" in done.stdout
    assert [path for path in folder.rglob("*") if not path.is_dir()] == [folder / "somebody-elses"]
    assert not node.home().exists()
    assert cached.entries() == []


def test_clear_takes_a_link_away_and_leaves_what_it_leads_to(run, folder, tmp_path):
    """Containers and CI jobs link the packages to where they were installed once."""
    elsewhere = installed().rename(tmp_path / "elsewhere")
    node.home().symlink_to(elsewhere)
    initialised()
    done = run("cache", "clear")
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "node_modules/lite/index.js").exists()
    assert not node.home().is_symlink()
    assert clusters.kept() == []
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []


def test_what_is_no_folder_does_not_keep_the_rest_from_being_cleared(run, folder):
    """A stray file is no reason to keep gigabytes."""
    folder.mkdir()
    (folder / "lite-stray").write_text("a file")
    initialised()
    done = run("cache", "clear")
    assert done.returncode == 0, done.stderr
    assert clusters.kept() == []


def test_a_clear_that_is_ended_in_the_middle_leaves_no_half_installed_packages(monkeypatch):
    """Packages that count as installed but miss a file would fail in every run, and nobody would know why."""
    home = installed()

    def half(folder, *_, **__):
        (Path(folder) / "node_modules/lite/index.js").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(cached.shutil, "rmtree", half)
    with pytest.raises(KeyboardInterrupt):
        cached.clear()
    assert not node.is_installed(home) or (home / "node_modules/lite/index.js").exists()


def test_a_run_after_clear_makes_what_it_needs(run, folder, packages):
    """Nothing that is kept may be missed by anything but the clock."""
    initialised()
    assert run("cache", "clear").returncode == 0
    (folder / INSTALLED).symlink_to(packages)  # else npm would fetch it from the network
    done = run("replay", "fixed")
    assert done.returncode == 0, done.stderr
    found = [(entry.kind, entry.name.partition("-")[0]) for entry in cached.entries()]
    assert found == [(cached.PACKAGES, "lite"), (cached.CLUSTER, "postgresql")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cache", "empty"], "'empty' is not one of 'show', 'clear'"),
        (["cache", "clear", "--json", "missing/found.json"], "there is no folder"),
    ],
)
def test_wrong_usage_clears_nothing(run, arguments, said):
    """A typing mistake must not cost what takes minutes to make."""
    path = initialised()
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert path.exists()


@pytest.mark.parametrize(("taken", "action"), [("", "show"), ("clusters", "clear"), ("kept", "show")])
def test_a_file_in_the_place_of_the_cache_is_wrong_usage(run, folder, taken, action):
    """Whoever set the variable to a file has to read which one it is."""
    place = folder / taken
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file")
    done = run("cache", action)
    assert done.returncode == 2, done.stderr
    assert str(place) in done.stderr
    assert "SESSION_FIX_CACHE" in done.stderr
    assert place.read_text() == "a file"
