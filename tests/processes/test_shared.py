"""What processes of one run share is started once, lives as long as one of them uses it, and is gone after the last."""

import secrets
import signal
from pathlib import Path

import pytest

from session_fix import folders

SHARER = """
import json, sys
from contextlib import contextmanager
from session_fix import folders
from session_fix.processes import Shared, guarded, shared
key, starts, command, half_way = sys.argv[1:]

def say(**what):
    print(json.dumps(what), flush=True)

@contextmanager
def start(share):
    with open(starts, "a") as file:
        file.write("started\\n")
    with (
        folders.run_folder("test") as folder,
        guarded(["/bin/sh", "-c", command], name="it", folder=folder, grace_s=30, share=share) as process,
    ):
        if half_way == "half-way":
            say(child=process.pid, folder=str(folder.path), share=str(share))
            sys.stdin.read()
        yield Shared(str(folder.path), {"child": process.pid, "folder": str(folder.path), "share": str(share)})

with shared(key, start) as value:
    say(**value)
    sys.stdin.read()
"""


@pytest.fixture
def join(own, tmp_path):
    """Return a function that starts one more process that shares; ``join.starts()`` counts the starts."""
    key, starts = f"test{secrets.token_hex(6)}", tmp_path / "starts"

    def start(command="exec sleep 1000", *, half_way=False):
        return own(SHARER, key, starts, command, "half-way" if half_way else "")

    start.starts = lambda: len(starts.read_text().splitlines())
    start.key = key
    return start


@pytest.fixture
def is_gone(eventually, is_running):
    """Return a function that waits until a shared process and its folders are gone."""

    def wait(said):
        eventually(lambda: not is_running(said["child"]), of_what="the shared process has ended")
        eventually(lambda: not Path(said["folder"]).exists(), of_what="its folder is gone")

    return wait


def test_started_once_for_all_who_ask_at_the_same_time(join):
    """Workers of one test run start together, and must end up with one server."""
    said = [owner.said() for owner in [join() for _ in range(5)]]
    assert join.starts() == 1
    assert len({one["child"] for one in said}) == 1


@pytest.mark.parametrize("how", ["leaves", "is killed"])
def test_it_survives_the_one_who_started_it(join, is_running, is_gone, how):
    """The first worker may be the first to finish; the others still need the server."""
    starter = join()
    said = starter.said()
    other = join()
    assert other.said() == said
    starter.leave() if how == "leaves" else starter.end_with(signal.SIGKILL)
    third = join()
    assert third.said() == said, "a newcomer shares what the others still use"
    assert is_running(said["child"])
    for owner in (other, third):
        owner.leave()
    is_gone(said)


def test_after_the_last_the_share_folder_is_removed(join, eventually, is_gone):
    """The folder through which they found each other is theirs to remove as well."""
    owner = join()
    said = owner.said()
    share = Path(said["share"])
    assert (share / folders.SHARE_FILE).is_file()
    owner.leave()
    is_gone(said)
    eventually(lambda: not share.exists())


def test_after_the_last_it_is_started_anew(join, is_gone):
    """A key is not used up."""
    first = join()
    said = first.said()
    first.end_with(signal.SIGKILL)
    is_gone(said)
    assert join().said()["child"] != said["child"]
    assert join.starts() == 2


def test_a_half_started_one_is_started_anew(join, is_running, is_gone):
    """Somebody killed while starting must not leave the others waiting, nor with half of it."""
    starter = join(half_way=True)
    half = starter.said()
    waiting = join()
    starter.end_with(signal.SIGKILL)
    whole = waiting.said()
    assert join.starts() == 2
    assert whole["child"] != half["child"]
    assert is_running(whole["child"])
    is_gone(half)


def test_one_that_is_ending_does_not_take_its_successor_along(tmp_path, join, eventually, is_gone):
    """Who comes while the last one is leaving starts anew; the old guard then removes its own things only."""
    slow_to_end = f"trap 'touch {tmp_path}/asked; while [ ! -e {tmp_path}/end ]; do sleep 0.02; done; exit' TERM"
    leaving = join(f"{slow_to_end}; touch {tmp_path}/up; while :; do sleep 0.02; done")
    old = leaving.said()
    eventually((tmp_path / "up").exists)
    leaving.leave()
    eventually((tmp_path / "asked").exists)
    successor = join().said()
    (tmp_path / "end").touch()
    is_gone(old)
    assert successor["child"] != old["child"]
    assert join().said() == successor, "the successor was forgotten when the old one was removed"


def test_a_sweep_leaves_a_share_alone_while_it_is_used(join):
    """Nobody holds the share folder's lock after the start; what it stands for says that it is in use."""
    said = join().said()
    folders.sweep()
    assert (Path(said["share"]) / folders.SHARE_FILE).is_file()
    assert join().said() == said
