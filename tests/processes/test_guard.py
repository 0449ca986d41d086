"""A guarded process ends, and its folder vanishes, however its owner ends."""

import os
import secrets
import signal
import subprocess
from pathlib import Path

import pytest

from session_fix import folders, guard
from session_fix.errors import ProcessEndedError
from session_fix.processes import GuardedProcess, guarded

WITH_A_GRANDCHILD = "sleep 1000 & echo $! > unfinished; mv unfinished grandchild; wait"
OWNER = """
import json, sys
from session_fix import folders
from session_fix.processes import guarded
with (
    folders.run_folder("test") as folder,
    guarded(["/bin/sh", "-c", sys.argv[1]], name="the child", folder=folder, grace_s=float(sys.argv[2])) as process,
):
    print(json.dumps({"folder": str(folder.path), "child": process.pid}), flush=True)
    sys.stdin.read()
"""


def parent_of(pid):
    """Return the process that started ``pid``."""
    found = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(found.stdout)


def shell(command, *, folder, **options):
    """Return the context manager of a guarded shell, for tests that are the owner themselves."""
    return guarded(["/bin/sh", "-c", command], name="the child", folder=folder, **options)


def start_and_wait(*command):
    """Run a command under a guard until it says it is ready, which it never does."""
    with folders.run_folder("test") as folder, guarded(command, name="the child", folder=folder) as process:
        process.wait_until(lambda: None, timeout_s=20, doing="starting")


@pytest.mark.parametrize("sig", [None, signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda sig: sig and sig.name)
def test_everything_ends_with_its_owner(own, eventually, is_running, sig):
    """No way of dying leaves the child, what the child started, the guard or the folder behind."""
    owner = own(OWNER, WITH_A_GRANDCHILD, 5)
    said = owner.said()
    folder = Path(said["folder"])
    note = eventually(lambda: (folder / "grandchild").exists() and (folder / "grandchild").read_text())
    running = [said["child"], int(note), parent_of(said["child"])]
    assert all(map(is_running, running))
    owner.end_with(sig) if sig else owner.leave()
    eventually(lambda: not folder.exists(), of_what=f"{folder} is gone")
    eventually(lambda: not any(map(is_running, running)), of_what=f"{running} have ended")


def test_the_block_returns_when_the_child_is_gone(is_running):
    """Whoever comes next may rely on it: nothing is still ending in the background."""
    with folders.run_folder("test") as folder:
        with shell("exec sleep 1000", folder=folder) as process:
            pid = process.pid
            assert is_running(pid)
        assert not is_running(pid)
        assert not folder.path.exists()


def test_a_child_that_ignores_its_stop_signal_is_killed(tmp_path, own, eventually, is_running):
    """It gets its signal first and its grace, and then no choice."""
    stubborn = f"trap 'touch {tmp_path}/refused' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    owner = own(OWNER, stubborn, 0.5)
    said = owner.said()
    eventually((tmp_path / "ready").exists)
    owner.end_with(signal.SIGKILL)
    eventually(lambda: not Path(said["folder"]).exists())
    assert not is_running(said["child"])
    assert (tmp_path / "refused").exists(), "it was killed without its stop signal"


def test_a_command_that_does_not_exist_is_named():
    """A missing program is the most common reason, so the message has to say which."""
    with pytest.raises(ProcessEndedError, match=r"exit code 127(.|\n)*/no/such/program: .*No such file"):
        start_and_wait("/no/such/program")


def test_a_process_that_dies_early_gives_its_exit_code_and_last_lines():
    """The reason is what it printed last; without it, nobody could do anything about it."""
    command = "seq 100; echo 'no space left' >&2; exit 3"
    with pytest.raises(ProcessEndedError, match=r"the child ended with exit code 3 while starting") as refused:
        start_and_wait("/bin/sh", "-c", command)
    lines = str(refused.value).splitlines()[1:]
    assert lines == [*(f"  | {number}" for number in range(82, 101)), "  | no space left"]


def test_a_process_killed_by_somebody_else_is_seen(eventually):
    """Its exit code is the negative signal number, as in ``subprocess``."""
    with folders.run_folder("test") as folder, shell("exec sleep 1000", folder=folder) as process:
        assert process.exit_code() is None
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: process.exit_code() is not None)
        assert process.exit_code() == -signal.SIGKILL


def test_an_exit_code_still_being_written_is_none_yet(tmp_path):
    """The file appears before its content: whoever looks in between must not take it for a success."""
    (tmp_path / guard.EXIT_FILE).touch()
    assert GuardedProcess("it", tmp_path).exit_code() is None


def test_a_deadline_carries_the_last_lines():
    """A process that hangs has usually said before what it waits for."""
    command, late = (
        "echo waiting for a disk; exec sleep 1000",
        r"not ready after 0\.01 s of warming up.*\n  \| waiting for",
    )
    with folders.run_folder("test") as folder, shell(command, folder=folder) as process:
        process.wait_until(lambda: process.last_lines() or None, timeout_s=20, doing="starting")
        with pytest.raises(ProcessEndedError, match=late):
            process.wait_until(lambda: None, timeout_s=0.01, doing="warming up")


def test_a_process_that_ends_while_it_is_asked_for_is_asked_again(tmp_path):
    """Whoever waits for the end itself gets it, also when it comes between the answer and the look at the process."""
    process = GuardedProcess("it", tmp_path)

    def ended():
        code = process.exit_code()
        (tmp_path / guard.EXIT_FILE).write_text("0")
        return code

    assert process.wait_until(ended, timeout_s=20, doing="stopping") == 0


@pytest.mark.needs_proc
def test_a_killed_guard_takes_its_child_along(own, eventually, is_running):
    """The kernel tells the child on Linux; the folder is left to the next sweep, which has no other use."""
    owner = own(OWNER, "exec sleep 1000", 5)
    said = owner.said()
    os.kill(parent_of(said["child"]), signal.SIGKILL)
    eventually(lambda: not is_running(said["child"]))
    owner.end_with(signal.SIGKILL)
    folders.sweep()
    assert not Path(said["folder"]).exists()


def test_a_sweep_leaves_alone_what_is_in_use(own, is_running):
    """Every run sweeps when it starts; it must not take the folders of its neighbours."""
    owner = own(OWNER, "exec sleep 1000", 5)
    said = owner.said()
    assert Path(said["folder"]) not in folders.sweep()
    assert Path(said["folder"]).is_dir()
    assert is_running(said["child"])


@pytest.mark.needs_proc
def test_no_command_line_shows_the_environment():
    """Everybody on the machine can read command lines; passwords travel in the environment and over a pipe."""
    secret, shown = secrets.token_hex(16), secrets.token_hex(16)
    with (
        folders.run_folder("test") as folder,
        shell(f"echo up; sleep 1000; {shown}", folder=folder, env={"PASSWORD": secret, "PATH": os.defpath}) as process,
    ):
        process.wait_until(lambda: process.last_lines() or None, timeout_s=20, doing="starting")
        everybodys = b"\n".join(_command_lines())
    assert shown.encode() in everybodys, "the check would not have seen it"
    assert secret.encode() not in everybodys


def _command_lines():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
