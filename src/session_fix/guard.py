"""Keep one process alive exactly as long as somebody holds a lease on it, then stop it and remove its folder.

Run by ``command``, in its own session, with nothing but the standard library. Standard input begins with what to start
(``written`` by the same interpreter; a command line would show passwords to ``ps``), and the open pipe is the owner's
lease. Further processes lease by connecting to ``lease.sock``. The kernel closes both
when their holder ends in whatever way, SIGKILL included, so nothing has to be told to clean up.

It is started before every server and service, and they wait for it: what it imports is what they take longer. So no
``subprocess``, ``pathlib`` or ``json`` here, and of ``socket`` and ``signal`` only what is below their enumerations,
which take as long as all the rest. What only its end needs is imported then.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Any
else:
    import _signal as signal

PR_SET_PDEATHSIG = 1  # Source: prctl(2)
NOT_STARTED = 127  # Source: POSIX, "Shell Command Language", 2.8.2
EXIT_FILE = "exit"
SHARE_FILE = "share.json"
GRANTED = b"1"
LEASE_SOCKET = "lease.sock"
LOG_FILE = "log"
PID_FILE = "pid"
POLL_S = 0.005
LENGTH_BYTES = 8
START = "import sys; sys.path.append(sys.argv[1]); import guard; guard.main(sys.argv[2])"


def command(folder: str | os.PathLike[str]) -> list[str]:
    """Return how to run a guard of what will be in that folder: imported, since a script is compiled each time."""
    return [sys.executable, "-I", "-S", "-B", "-c", START, os.path.dirname(__file__), os.fspath(folder)]


def written(spec: Mapping[str, Any]) -> bytes:
    """Return what to write to a guard's standard input."""
    content = marshal.dumps(dict(spec))
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


def read() -> dict[str, Any] | None:
    """Return what standard input begins with, None when its owner ended before it had said all; not a byte more."""
    if (length := _read(LENGTH_BYTES)) and (content := _read(int.from_bytes(length, "big"))):
        found: dict[str, Any] = marshal.loads(content)  # noqa: S302  from the process that started this one
        return found
    return None


def _read(length: int) -> bytes | None:
    content = b""
    while len(content) < length:
        if not (more := os.read(0, length - len(content))):
            return None
        content += more
    return content


def die_with_parent(sig: int) -> None:
    """Ask Linux to send ``sig`` to this process when its parent is killed; elsewhere the next run's sweep does it."""
    _ask_for_death()(sig)


def _ask_for_death() -> Callable[[int], object]:
    """Return what does it; as another user, Python's own modules may be out of reach."""
    if sys.platform != "linux":
        return lambda _: None
    import ctypes  # by the guard, while its owner prepares what it starts

    prctl = ctypes.CDLL(None).prctl
    return lambda sig: prctl(PR_SET_PDEATHSIG, sig)


class Child:
    """The guarded process."""

    def __init__(self, spec: dict[str, Any], folder: str, ask_for_death: Callable[[int], object]) -> None:
        self.exit_code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(spec, folder, ask_for_death)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self.exit_code

    def stop(self, sig: int, grace_s: float) -> None:
        """End it and what is left of its process group: ``sig`` first, SIGKILL after ``grace_s`` seconds."""
        deadline = time.monotonic() + grace_s
        if self.poll() is None:
            os.kill(self.pid, sig)
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.exit_code = os.waitstatus_to_exitcode(status)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # gone already; macOS says so for a zombie


def _become(spec: dict[str, Any], folder: str, ask_for_death: Callable[[int], object]) -> None:
    """Replace this process by the guarded command, its output in the folder's log."""
    try:
        log = os.open(os.path.join(folder, LOG_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        os.chdir(spec["cwd"])
        os.setsid()
        if spec["uid"] is not None:
            os.setgroups([])
            os.setgid(spec["gid"])
            os.setuid(spec["uid"])
        ask_for_death(spec["stop_signal"])  # last: a change of user takes it back
        os.execvpe(  # noqa: S606  no shell is wanted
            spec["argv"][0], spec["argv"], os.environ if spec["env"] is None else spec["env"]
        )
    except BaseException as error:  # noqa: BLE001  whatever it is, this process may not go on as a second guard
        os.write(2, f"{spec['argv'][0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(NOT_STARTED)


def hold(child: Child, folder: str, *, wakeup: int) -> None:
    """Return when the last lease is gone or SIGTERM arrives; note the child's exit code should it end before."""
    terminated = []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
    listener = _socket.socket(_socket.AF_UNIX)
    listener.bind(os.path.join(folder, LEASE_SOCKET))
    listener.listen(64)
    leases = {0}  # the owner's; all are descriptors
    poller = select.poll()
    for descriptor in (*leases, listener.fileno(), wakeup):
        poller.register(descriptor, select.POLLIN)
    while leases and not terminated:
        for descriptor, _ in poller.poll():
            if descriptor == listener.fileno():
                accepted, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  what accept() calls
                os.write(accepted, GRANTED)
                leases.add(accepted)
                poller.register(accepted, select.POLLIN)
            elif descriptor == wakeup:
                os.read(wakeup, 64)
                if child.poll() is not None:
                    _write(folder, EXIT_FILE, str(child.exit_code))
            elif not os.read(descriptor, 64):
                poller.unregister(descriptor)
                leases.remove(descriptor)
                os.close(descriptor)
    listener.close()  # whoever is waiting to be let in is refused, and starts one of its own


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def remove(folder: str) -> None:
    """Remove the folder, and the one that held it if nothing else is in it."""
    import shutil  # nobody waits for the end

    for _ in range(20):  # a dying child may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.05)
    remove_if_empty(os.path.dirname(folder))


def remove_if_empty(base: str | os.PathLike[str]) -> None:
    """Remove the folder of all runs when this was the last, under its lock: under it, runs make their folders."""
    import fcntl  # nobody waits for the end

    try:
        descriptor = os.open(base, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.stat(base).st_ino == os.fstat(descriptor).st_ino:  # else it is a new one, with a lock of its own
            os.rmdir(base)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def remove_share(share: str, folder: str) -> None:
    """Remove the folder through which others found this guard, unless it leads to a successor by now."""
    import fcntl  # nobody waits for the end
    import json
    import shutil

    try:
        descriptor = os.open(share, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with open(os.path.join(share, SHARE_FILE), encoding="utf-8") as note:
            leads_here = json.load(note)["folder"] == folder
        if leads_here:
            shutil.rmtree(share)
    except (OSError, ValueError):
        pass
    finally:
        os.close(descriptor)


def main(folder: str) -> None:
    """Guard the command that standard input begins with."""
    for sig in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    wakeup, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ask_for_death = _ask_for_death()
    if (spec := read()) is None:
        remove(folder)
        return
    child = None
    try:
        child = Child(spec, folder, ask_for_death)
        _write(folder, PID_FILE, str(child.pid))
        hold(child, folder, wakeup=wakeup)
    finally:
        if child:
            child.stop(spec["stop_signal"], spec["grace_s"])
        if spec["share"]:
            remove_share(spec["share"], folder)
        remove(folder)
