"""Databases of failed tests are kept whole or not at all, under names that can be typed, and never too many."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_fix import kept
from session_fix.errors import ArchiveError, UsageError

KEEP = """
import json, sys
from session_fix import kept
from session_fix.databases import Database
from session_fix.servers import Server

params, test = json.loads(sys.argv[1])
kept.keep(Database(params["dbname"], params), server=Server("embedded", "18", {}), test=test, limit=5)
"""


@pytest.fixture
def keeping(here):
    """Return a function that starts a process which keeps a database; it is killed with the test."""
    started = []

    def start(database, test=here.TEST):
        argv = [sys.executable, "-c", KEEP, json.dumps([database.params, test])]
        started.append(subprocess.Popen(argv))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def entries(folder):
    """Return the names in the folder of what is kept."""
    return sorted(path.name for path in folder.iterdir())


def kept_of():
    """Return the tests whose databases are kept, the newest first."""
    return [one.test for one in kept.listed()]


def test_it_says_what_was_kept(here, database):
    """Whoever lists them has to find the one of his test."""
    one = here.keep(database, "tests/test_flow.py::test_first_query[fixed]")
    assert re.fullmatch("test_first_query_fixed_[0-9a-f]{6}", one.name)
    assert (one.test, one.origin.major) == ("tests/test_flow.py::test_first_query[fixed]", 18)
    assert one.server == f"embedded {here.server.version}"
    assert one.size_bytes == one.path.stat().st_size > 0
    assert kept.listed() == [one]


def test_one_test_can_fail_twice(here, database):
    """The second failure is another state, and must not replace the first."""
    assert len({here.keep(database).name, here.keep(database).name}) == 2
    assert len(kept.listed()) == 2


def test_only_the_newest_stay(here, database, folder):
    """A cache that grows with every failure would fill the disk."""
    for number in range(4):
        here.keep(database, f"t.py::test_{number}", limit=2)
    assert kept_of() == ["t.py::test_3", "t.py::test_2"]
    assert len(entries(folder)) == 2


def test_the_newest_is_first_though_the_clock_went_back(here, database):
    """What was kept a moment ago would otherwise count as the oldest, and be the next to go."""
    note = here.keep(database, "t.py::test_of_the_future").path.with_name(kept.NOTE)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"when": "2999-01-01T00:00:00+00:00"}))
    here.keep(database, "t.py::test_now")
    assert kept_of() == ["t.py::test_now", "t.py::test_of_the_future"]


def test_with_limit_zero_nothing_is_kept_and_nothing_forgotten(here, database):
    """It switches keeping off for this run; what earlier runs kept is not its business."""
    one = here.keep(database)
    assert here.keep(database, limit=0) is None
    assert kept.listed() == [one]


def test_clear_forgets_all(here, database, folder):
    """The owner of the disk has the last word."""
    one = here.keep(database)
    assert kept.clear() == [one]
    assert (kept.listed(), entries(folder)) == ([], [])


def test_two_processes_keep_at_the_same_time(here, database, keeping, eventually, folder):
    """Workers fail side by side: neither is listed before it is whole, and neither sweeps the other away."""
    with here.dumps_held_up(database) as waiting:
        first = keeping(database, "t.py::test_a")
        eventually(lambda: len(waiting()) == 1)
        second = keeping(database, "t.py::test_b")
        eventually(lambda: len(waiting()) == 2)
        assert (kept_of(), len(entries(folder))) == ([], 2)
    assert (first.wait(30), second.wait(30)) == (0, 0)
    assert sorted(kept_of()) == ["t.py::test_a", "t.py::test_b"]
    assert len(entries(folder)) == 2


def test_one_waits_while_another_names_and_prunes(here, database, keeping, eventually, folder):
    """Two that prune at once would both take the same for the oldest."""
    with here.dumps_held_up(database) as waiting:
        process = keeping(database)
        eventually(waiting)
        lock = kept.folders.lock(folder)
    try:
        eventually(here.has_no_dump)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert kept.listed() == []
    finally:
        os.close(lock)
    assert process.wait(30) == 0
    assert kept_of() == [here.TEST]


def test_a_dump_whose_connection_ends_is_an_error_and_leaves_nothing(here, database, eventually, folder):
    """The message has to say what pg_dump said; half of a database proves nothing."""
    with ThreadPoolExecutor(1) as pool, here.dumps_held_up(database) as waiting:
        failing = pool.submit(here.keep, database)
        (pid,) = eventually(waiting)
        here.sql("SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(
            ArchiveError, match=rf"(?s){here.TEST} was not kept.*pg_dump ended .*terminating connection"
        ):
            failing.result(30)
    assert (kept.listed(), entries(folder)) == ([], [])


def test_what_a_killed_process_left_is_not_listed_and_goes_with_the_next(here, database, keeping, eventually, folder):
    """SIGKILL comes without a last word."""
    with here.dumps_held_up(database) as waiting:
        process = keeping(database)
        eventually(waiting)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.listed() == []
        (left,) = entries(folder)
    eventually(here.has_no_dump)
    one = here.keep(database)
    assert left not in entries(folder)
    assert entries(folder) == [one.name]


def test_what_is_not_whole_is_not_listed(here, database, folder):
    """People delete things in a cache, and a process may be killed while it prunes."""
    whole, without_archive, without_note, going = (here.keep(database) for _ in range(4))
    without_archive.path.unlink()
    without_note.path.with_name(kept.NOTE).write_text("{")
    going.path.parent.rename(folder / f"{kept.UNFINISHED}{going.name}")
    (folder / "a-file").write_text("")
    assert kept.listed() == [whole]


def test_an_open_alter_table_does_not_keep_it_from_being_kept(here, database):
    """The traceback of the failed test holds its connection, and with it the lock."""
    with contextlib.closing(database.connect()) as left_open:
        left_open.execute("ALTER TABLE ai_sessions ADD COLUMN half_way int")
        here.keep(database)
    assert kept_of() == [here.TEST]


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("tests/test_flow.py::test_first_query", "test_first_query"),
        ("test_a.py::TestFlow::test_query[fixed-2]", "test_query_fixed_2"),
        ("t.py::test_path[a/b::c[0]]", "test_path_a_b_c_0"),
        ("t.py::test_Städte[\u00df\u6771\u4eac İ]", "test_stadte_i"),
        ("t.py::test_\udcff\0\n';--", "test"),
        (f"t.py::test_{'long ' * 60}", "test_" + "long_" * 7 + "lon"),
        ("", "test"),
        ("::", "test"),
        ("../../etc/passwd", "etc_passwd"),
    ],
)
def test_names_can_be_read_and_typed(test, name):
    """They are folders, databases, and words of a command line."""
    assert kept.readable(test) == name
    assert re.fullmatch("[a-z0-9_]{1,43}", name)


@pytest.mark.parametrize("test", ["t.py::test_[\udcff/\0東京]", "x" * 300])
def test_any_test_can_keep_its_database(here, database, test):
    """Whatever its id is made of, it comes back as it was."""
    one = here.keep(database, test)
    assert kept.find(one.name).test == test
    assert len(one.name) <= 50


def test_an_unknown_name_is_answered_with_what_there_is(here, database):
    """The name was typed, or is that of a database which has been forgotten since."""
    with pytest.raises(UsageError, match="nor any other"):
        kept.find("test_first_query_000000")
    one = here.keep(database)
    with pytest.raises(UsageError, match=rf"(?s)'first_query' is kept\. Did you mean '{one.name}'.*{here.TEST}"):
        kept.find("first_query")
    with pytest.raises(UsageError) as raised:
        kept.find("../kept")
    assert "Did you mean" not in str(raised.value)


def test_nobody_else_can_look_into_it(here, database, folder):
    """It holds what somebody's tests hold."""
    one = here.keep(database)
    assert [path.stat().st_mode & 0o077 for path in (folder, one.path.parent)] == [0, 0]


def test_a_cache_that_cannot_be_written_is_an_error_of_ours(here, database, folder):
    """The failed test has to be reported all the same."""
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with pytest.raises(ArchiveError, match="was not kept"):
        here.keep(database)
