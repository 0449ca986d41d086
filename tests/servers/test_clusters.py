"""Kept clusters: whole or absent, built by one for all who ask, and never more of them than the disk was promised."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from session_fix import folders
from session_fix.errors import UsageError
from session_fix.servers import clusters

ANSWER_TIMEOUT_S = 30
HALF, OTHER_HALF = b"first half, ", b"second half"
BUILDER = """
import json, sys
from session_fix.servers import clusters

def build(target):
    target.write(b"first half, ")
    target.flush()
    print(json.dumps("building"), flush=True)
    sys.stdin.readline()
    target.write(b"second half")

with clusters.opened("it", {"number": 1}, build) as found:
    print(json.dumps(found.read().decode()), flush=True)
"""
MIB = 1 << 20


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep what these tests keep where nobody else's is; return that folder."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/clusters"


class Builder:
    """A process that asks for the entry "it"; when it builds, it waits in the middle to be told."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def said(self):
        """Return the next thing it says; fail when nothing comes."""
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_TIMEOUT_S)
        line = self.process.stdout.readline() if ready else b""
        assert line, f"it said nothing; exit code {self.process.poll()}"
        return json.loads(line)

    def go_on(self):
        """Let it build the other half."""
        self.process.stdin.write(b"\n")

    def kill(self):
        """End it as the OOM killer does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(ANSWER_TIMEOUT_S)


@pytest.fixture
def builder():
    """Return a function that starts a builder; whatever still runs is killed with the test."""
    started = []

    def start():
        started.append(Builder())
        return started[-1]

    yield start
    for one in started:
        with one.process as process:
            process.kill()


@pytest.fixture
def waits(eventually):
    """Return a function that returns once a process waits for somebody's lock."""

    def check(process):
        def is_queued():
            lines = map(str.split, Path("/proc/locks").read_text().splitlines())
            return any(line[1] == "->" and line[5] == str(process.pid) for line in lines)

        eventually(is_queued, of_what="it waits for the lock")

    return check


def content(title="it", depends_on=None, build=None):
    """Return what is in an entry, which is built by ``build`` or may not be built at all."""

    def may_not(_):
        pytest.fail("it was built though it was there")

    with clusters.opened(title, depends_on or {"number": 1}, build or may_not) as found:
        return found.read()


def whole(target):
    """Build an entry."""
    target.write(HALF + OTHER_HALF)


def of_size(size_bytes):
    """Return a function that builds an entry of that size, which takes no place on the disk."""
    return lambda target: target.truncate(size_bytes)


def made(number, size_bytes, *, used=None):
    """Make an entry of that size, last used that many seconds after 1970; return its path."""
    with clusters.opened("it", {"number": number}, of_size(size_bytes)) as found:
        path = Path(found.name)
    if used:
        os.utime(path, (used, used))
    return path


def test_it_is_built_once():
    """Whoever asks later has what the first one made."""
    assert content(build=whole) == content() == HALF + OTHER_HALF
    (path,) = clusters.kept()
    assert path.name.startswith("it-")


@pytest.mark.parametrize("other", [{"number": 2}, {"number": 1, "more": None}, {"number": "1"}, {"number": [1]}])
def test_what_it_depends_on_tells_it_from_others(other):
    """A cluster of other migrations or states would prove something about those."""
    content(build=whole)
    assert content(depends_on=other, build=lambda target: target.write(b"other")) == b"other"
    assert content() == HALF + OTHER_HALF


def test_another_way_of_building_makes_all_of_them_anew(monkeypatch):
    """What an older release kept is not what this one would make."""
    content(build=whole)
    monkeypatch.setattr(clusters, "FORMAT", clusters.FORMAT + 1)
    assert content(build=lambda target: target.write(b"new")) == b"new"


@pytest.mark.parametrize("title", ["../../It's /a Title", "-".join(["production_after_the_bug"] * 12)])
def test_any_title_makes_a_name(folder, title):
    """Titles name the states of a run, and a run may ask for one state with a dozen seeds."""
    assert content(title, build=whole) == content(title)
    assert clusters.kept() == [path for path in folder.iterdir() if path.is_file()] != []


def test_a_build_that_fails_leaves_nothing(folder):
    """The next one who asks has to start from the beginning."""

    def fail(target):
        target.write(HALF)
        target.flush()
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        content(build=fail)
    assert list(folder.iterdir()) == []
    assert content(build=whole) == HALF + OTHER_HALF


def test_what_a_killed_builder_left_is_never_used_and_goes_with_the_next(builder, folder):
    """SIGKILL comes without a last word, and half of a cluster may even start."""
    killed = builder()
    assert killed.said() == "building"
    (left,) = folder.iterdir()
    assert left.read_bytes() == HALF
    killed.kill()
    assert clusters.kept() == []
    assert content(build=whole) == HALF + OTHER_HALF
    assert list(folder.iterdir()) == clusters.kept()


@pytest.mark.needs_proc
def test_of_two_that_ask_at_once_one_builds(builder, waits):
    """Both have it in the end, whole, and nobody has to be told to try again."""
    first = builder()
    assert first.said() == "building"
    second = builder()
    waits(second.process)
    assert clusters.kept() == []
    first.go_on()
    assert [first.said(), second.said()] == ["first half, second half"] * 2
    assert len(clusters.kept()) == 1


@pytest.mark.needs_proc
def test_who_waits_for_a_builder_that_is_killed_builds(builder, waits, folder):
    """Its lock is the kernel's, and so goes with it."""
    first = builder()
    assert first.said() == "building"
    second = builder()
    waits(second.process)
    first.kill()
    assert second.said() == "building"
    second.go_on()
    assert second.said() == "first half, second half"
    assert list(folder.iterdir()) == clusters.kept() != []


def test_while_one_is_built_others_are_read(builder):
    """A run whose cluster is there waits for nobody."""
    content(depends_on={"number": 2}, build=whole)
    assert builder().said() == "building"
    assert content(depends_on={"number": 2}) == HALF + OTHER_HALF


def test_the_least_recently_used_goes_first():
    """To be used is to be opened, not to be made: what all runs need may be the oldest."""
    oldest, unused = made(1, 400 * MIB, used=1), made(2, 400 * MIB, used=2)
    made(1, 0)
    newest = made(3, 400 * MIB)
    assert set(clusters.kept()) == {oldest, newest}
    assert not unused.exists()


def test_below_the_limit_all_stay():
    """The limit is there for the disk; to keep less would only cost time."""
    assert {made(1, 500 * MIB, used=1), made(2, 500 * MIB, used=2), made(3, 24 * MIB)} == set(clusters.kept())


def test_the_one_just_made_stays_however_large():
    """Made and removed at once, it would be made in every run."""
    small, large = made(1, MIB), made(2, 2 * clusters.LIMIT_BYTES)
    assert clusters.kept() == [large]
    assert not small.exists()
    assert made(2, 0).stat().st_size == 2 * clusters.LIMIT_BYTES


def test_kept_are_listed_by_their_use():
    """Whoever looks at the list wants to know what nobody needs."""
    first, second, third = made(1, 1, used=30), made(2, 1, used=10), made(3, 1, used=20)
    assert clusters.kept() == [first, third, second]


@pytest.mark.parametrize("end", [clusters.clear, lambda: made(2, 2 * clusters.LIMIT_BYTES)], ids=["clear", "prune"])
def test_a_run_that_has_it_open_reads_it_to_its_end(end):
    """Another run prunes, or somebody clears the cache, while this one starts."""
    with clusters.opened("it", {"number": 1}, whole) as found:
        assert found.read(len(HALF)) == HALF
        end()
        assert not Path(found.name).exists()
        assert found.read() == OTHER_HALF


def test_one_that_was_removed_is_built_again():
    """It is how a damaged one is replaced; to remove it twice, as two runs would, is no error."""
    content(build=whole)
    content(depends_on={"number": 2}, build=whole)
    with clusters.opened("it", {"number": 1}, whole) as found:
        path = Path(found.name)
    clusters.remove(path)
    clusters.remove(path)
    assert content(build=lambda target: target.write(b"again")) == b"again"
    assert content(depends_on={"number": 2}) == HALF + OTHER_HALF


def test_clear_leaves_nothing(builder, folder):
    """The owner of the disk has the last word, on what dead processes left as well."""
    content(depends_on={"number": 2}, build=whole)
    (path,) = clusters.kept()
    killed = builder()
    assert killed.said() == "building"
    killed.kill()
    assert path in clusters.clear()
    assert list(folder.iterdir()) == []


def test_only_its_owner_may_look_into_it(folder):
    """A state may be a copy of somebody's production."""
    content(build=whole)
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0]


@pytest.mark.parametrize("taken", ["cache", "cache/clusters"])
def test_a_file_in_the_place_of_the_cache_is_wrong_usage(tmp_path, taken):
    """Whoever set the variable to a file has to read which, and what to do."""
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("a file")
    with pytest.raises(UsageError, match=f"{tmp_path / taken}.*SESSION_FIX_CACHE"):
        content(build=whole)


@pytest.mark.needs_proc
def test_a_cache_that_cannot_be_written_to_is_wrong_usage(monkeypatch):
    """Not even root can make a folder in /proc; a read-only home is as common in containers."""
    monkeypatch.setenv("SESSION_FIX_CACHE", "/proc")
    assert folders.cache() == Path("/proc")
    with pytest.raises(UsageError, match=r"/proc.*SESSION_FIX_CACHE"):
        content(build=whole)
