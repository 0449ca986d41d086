"""Folders of runs: private, locked as long as somebody uses them, and swept when nobody does."""

import fcntl
import json
import os
import threading
from contextlib import ExitStack

import pytest

import session_fix
from session_fix import folders


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Put the runs of these tests where no other run's are."""
    monkeypatch.setattr(folders, "fastest_temporary", lambda: tmp_path)
    return tmp_path


def entries(folder):
    """Return the names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def test_a_run_folder_is_there_for_the_block_and_gone_after_it():
    """Nothing of a run may stay on the disk."""
    with folders.run_folder("server") as run:
        (run.path / "data").mkdir()
        (run.path / "data/file").write_text("x")
        assert run.path.parent == folders.runs()
        assert run.path.name.startswith("server-")
    assert entries(folders.runs()) == []


def test_a_run_folder_is_gone_after_an_error_too():
    """The error comes out, the folder goes."""
    with pytest.raises(KeyError), folders.run_folder("server"):
        raise KeyError
    assert entries(folders.runs()) == []


def test_nobody_else_can_look_into_a_run_folder():
    """It holds sockets and passwords of a server."""
    with folders.run_folder("server") as run:
        assert run.path.stat().st_mode & 0o777 == 0o700
    assert folders.runs().stat().st_mode & 0o066 == 0


def test_run_folders_of_one_name_are_different_ones():
    """Workers run side by side."""
    with folders.run_folder("server") as one, folders.run_folder("server") as another:
        assert one.path != another.path


def test_a_folder_that_a_guard_still_locks_outlives_its_block():
    """The guard is handed the descriptor: as long as it lives, what it guards needs its folder."""
    with ExitStack() as guard:
        with folders.run_folder("server") as run:
            guards_own = os.dup(run.lock)
            guard.callback(os.close, guards_own)
        assert run.path.exists()
        assert folders.sweep() == []
        assert run.path.exists()
    assert folders.sweep() == [run.path]


def test_a_sweep_removes_only_what_nobody_locks():
    """A dead run's folder is refuse, a living one's is its database."""
    with folders.run_folder("alive") as run:
        left = folders.runs() / "left-by-the-dead"
        (left / "data").mkdir(parents=True)
        assert folders.sweep() == [left]
        assert entries(folders.runs()) == [run.path.name]


def test_a_sweep_leaves_files_alone():
    """Only folders are runs."""
    (folders.runs() / "file").write_text("x")
    assert folders.sweep() == []
    assert entries(folders.runs()) == ["file"]


def test_a_new_run_sweeps_what_dead_ones_left():
    """Nobody calls for a sweep after a power cut; the next run does it."""
    (folders.runs() / "left-by-the-dead").mkdir()
    with folders.run_folder("server") as run:
        assert entries(folders.runs()) == [run.path.name]


def share(folder, *, stands_for):
    """Make a folder with the note that it stands for another."""
    folder.mkdir()
    (folder / folders.SHARE_FILE).write_text(json.dumps({"folder": str(stands_for), "value": {}}))
    return folder


def test_a_share_note_keeps_its_folder_as_long_as_what_it_stands_for():
    """The process that wrote the note may be gone while others use the server it names."""
    with folders.run_folder("server") as run:
        note = share(folders.runs() / "share-key", stands_for=run.path)
        assert folders.sweep() == []
        assert note.exists()
    assert folders.sweep() == [note]


@pytest.mark.parametrize("note", [None, "", "{", '{"folder": "/no/such/folder"}', "{}", "[]"])
def test_a_share_folder_that_stands_for_nothing_is_swept(note):
    """A note can be missing, unfinished or stale; none of that may end the next run."""
    folder = folders.runs() / "share-key"
    folder.mkdir()
    if note is not None:
        (folder / folders.SHARE_FILE).write_text(note)
    assert folders.sweep() == [folder]


def test_a_link_among_the_runs_is_not_followed(tmp_path):
    """What it points to is not ours to remove, and it must not end every run of this user."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")
    (folders.runs() / "link").symlink_to(tmp_path / "mine")
    folders.sweep()
    assert entries(tmp_path / "mine") == ["file"]


def test_removing_says_whether_the_folder_is_gone(tmp_path):
    """Used, unused, or removed by another already."""
    folder = tmp_path / "run"
    folder.mkdir()
    descriptor = folders.lock(folder)
    assert folders.remove_if_unused(folder) is False
    os.close(descriptor)
    assert folders.remove_if_unused(folder) is True
    assert folders.remove_if_unused(folder) is True


def test_a_lock_is_held_against_others_until_it_is_closed(tmp_path):
    """The kernel's lock is the fact that a run lives."""
    descriptor = folders.lock(tmp_path)
    with pytest.raises(BlockingIOError):
        folders.lock(tmp_path, blocking=False)
    os.close(descriptor)
    os.close(folders.lock(tmp_path, blocking=False))


def test_a_folder_replaced_while_its_lock_was_waited_for_is_not_locked(tmp_path, monkeypatch):
    """The lock of a removed folder protects nothing."""
    folder = tmp_path / "run"
    folder.mkdir()
    real = fcntl.flock

    def replaced_meanwhile(descriptor, operation):
        folder.rename(tmp_path / "old")
        folder.mkdir()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replaced_meanwhile)
    with pytest.raises(FileNotFoundError, match="replaced"):
        folders.lock(folder)


def test_a_folder_that_vanishes_before_its_lock_is_made_again(tmp_path):
    """An ending run removes the common folder at the very moment when the next one wants it."""
    made = []

    def make():
        folder = tmp_path / "runs"
        if made:
            folder.mkdir()
        made.append(folder)
        return folder

    folder, descriptor = folders.lock_made(make)
    os.close(descriptor)
    assert (len(made), folder.is_dir()) == (2, True)


def test_run_folders_come_and_go_in_many_threads_at_once():
    """Sweeping and making happen under one lock: no run may lose its folder to another's sweep."""
    together = threading.Barrier(6)
    lost = []

    def work():
        together.wait()
        for _ in range(15):
            with folders.run_folder("server") as run:
                if not run.path.exists():
                    lost.append(run.path)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert entries(folders.runs()) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_place_that_is_not_our_folder_is_refused(tmp_path, kind):
    """Anybody can put something of that name into the common temporary folder first."""
    place = tmp_path / f"session-fix-{os.geteuid()}"
    (tmp_path / "elsewhere").mkdir()
    place.write_text("x") if kind == "file" else place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="TMPDIR"):
        folders.runs()
    assert entries(tmp_path / "elsewhere") == []


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    """CI systems keep one folder between runs."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "deep/cache"))
    assert folders.cache() == tmp_path / "deep/cache"
    assert folders.cache().is_dir()


@pytest.mark.parametrize("name", ["migrations", "scenarios", "service", "fixtures"])
def test_what_ships_is_found(name):
    """It lies at the top of a checkout and inside the package of a wheel."""
    assert entries(folders.bundled(name))


def test_what_does_not_ship_is_named(monkeypatch):
    """An installation that lost a folder can be repaired when one knows which."""
    monkeypatch.setattr(session_fix, "__path__", [])
    with pytest.raises(FileNotFoundError, match="service/"):
        folders.bundled("service")
