"""Keep one process alive exactly as long as somebody holds a lease on it, then stop it and remove its folder.

Run as a script, in its own session, with nothing but the standard library: ``python -I -S guard.py FOLDER``. The first
line of its standard input says what to start (as JSON; a command line would show passwords to ``ps``), and the open
pipe is the owner's lease. Further processes lease by connecting to ``lease.sock``. The kernel closes both when their
holder ends in whatever way, SIGKILL included, so nothing has to be told to clean up.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # Source: prctl(2)
EXIT_FILE = "exit"
SHARE_FILE = "share.json"
GRANTED = b"1"
LEASE_SOCKET = "lease.sock"
LOG_FILE = "log"
PID_FILE = "pid"


def die_with_parent(sig: int) -> None:
    """Ask Linux to send ``sig`` to this process when the guard is killed; elsewhere the next run's sweep does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sig)


def spawn(spec: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """Start the guarded command, its output in the folder's log."""
    stop = spec["stop_signal"]
    user = {"user": spec["uid"], "group": spec["gid"], "extra_groups": []} if spec["uid"] is not None else {}
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            spec["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=spec["env"],
            cwd=spec["cwd"],
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(stop),  # noqa: PLW1509  this process has one thread
            **user,
        )


def stop(child: subprocess.Popen[bytes], sig: int, grace_s: float) -> None:
    """End the child and what is left of its process group: ``sig`` first, SIGKILL after ``grace_s`` seconds."""
    if child.poll() is None:
        child.send_signal(sig)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already; macOS says so for a zombie
        os.killpg(child.pid, signal.SIGKILL)


def hold(child: subprocess.Popen[bytes] | None, folder: Path, *, wakeup: socket.socket) -> None:
    """Return when the last lease is gone or SIGTERM arrives; note the child's exit code should it end before."""
    terminated = []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
    selector = selectors.DefaultSelector()
    leases: set[Any] = {sys.stdin}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / LEASE_SOCKET))
    listener.listen(64)
    if child is None:  # it could not be started; said only now, because whoever waits expects the socket first
        (folder / EXIT_FILE).write_text("127")
    for source in (sys.stdin, listener, wakeup):
        selector.register(source, selectors.EVENT_READ)
    while leases and not terminated:
        for key, _ in selector.select():
            found: Any = key.fileobj
            if found is listener:
                lease, _ = listener.accept()
                lease.send(GRANTED)
                leases.add(lease)
                selector.register(lease, selectors.EVENT_READ)
            elif found is wakeup:
                wakeup.recv(64)
                if child and child.poll() is not None:
                    (folder / EXIT_FILE).write_text(str(child.returncode))
            elif not os.read(found.fileno(), 64):
                selector.unregister(found)
                leases.discard(found)
                found.close()
    listener.close()  # whoever is waiting to be let in is refused, and starts one of its own


def remove(folder: Path) -> None:
    """Remove the folder, and the one that held it if nothing else is in it."""
    for _ in range(20):  # a dying child may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.05)
    remove_if_empty(folder.parent)


def remove_if_empty(base: Path) -> None:
    """Remove the folder of all runs when this was the last, under its lock: under it, runs make their folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(base, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if base.stat().st_ino == os.fstat(descriptor).st_ino:  # else it is a new one, with a lock of its own
                base.rmdir()
        finally:
            os.close(descriptor)


def remove_share(share: Path, folder: Path) -> None:
    """Remove the folder through which others found this guard, unless it leads to a successor by now."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(share, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if json.loads((share / SHARE_FILE).read_text())["folder"] == str(folder):
                shutil.rmtree(share)
        finally:
            os.close(descriptor)


def main() -> None:
    """Guard the command that the first line of standard input describes."""
    stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  select() must see the rest
    folder = Path(sys.argv[1])
    for sig in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    wakeup, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    if not (line := stdin.readline()):  # the owner ended before it knew what to start
        remove(folder)
        return
    spec = json.loads(line)
    child = None
    try:
        try:
            child = spawn(spec, folder)
            (folder / PID_FILE).write_text(str(child.pid))
        except OSError as error:
            (folder / LOG_FILE).write_text(f"{spec['argv'][0]}: {error}\n")
        hold(child, folder, wakeup=wakeup)
    finally:
        if child:
            stop(child, spec["stop_signal"], spec["grace_s"])
        if spec["share"]:
            remove_share(Path(spec["share"]), folder)
        remove(folder)


if __name__ == "__main__":
    main()
