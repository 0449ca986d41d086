"""Processes that cannot outlive their run: each is started by a guard of its own (see ``guard.py``)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from session_fix import folders, guard
from session_fix.errors import ProcessEndedError
from session_fix.folders import RunFolder

T = TypeVar("T")
POLL_S = 0.001
LAST_LINES = 20
GUARD_LOG = "guard.log"


@dataclass(frozen=True, slots=True)
class User:
    """A system user to run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class GuardedProcess:
    """A running process and the folder that vanishes with it."""

    name: str
    folder: Path
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def pid(self) -> int:
        """The process id, once started."""
        return int((self.folder / guard.PID_FILE).read_text())

    def exit_code(self) -> int | None:
        """Return how the process ended by itself, None while it runs."""
        try:
            text = (self.folder / guard.EXIT_FILE).read_text()
        except FileNotFoundError:
            return None
        return int(text) if text else None  # empty while it is being written

    def last_lines(self, count: int = LAST_LINES) -> str:
        """Return the end of what the process wrote to its standard output and error, without its secrets."""
        try:
            text = (self.folder / guard.LOG_FILE).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        for secret in self.secrets:
            text = text.replace(secret, "[secret]")
        return "\n".join(text.splitlines()[-count:])

    def wait_until(self, ready: Callable[[], T | None], *, timeout_s: float, doing: str) -> T:
        """Poll ``ready`` until it returns something other than None, and return that.

        Raises ``ProcessEndedError`` with the process's last lines when it ends before, or ``timeout_s`` seconds pass.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            code = self.exit_code()  # before the question, which may be this one: the answer came after it
            if (result := ready()) is not None:
                return result
            if code is not None:
                raise self._ended(f"ended with exit code {code} while {doing}")
            if time.monotonic() > deadline:
                raise self._ended(f"was not ready after {timeout_s:g} s of {doing}")
            time.sleep(POLL_S)

    def _ended(self, what: str) -> ProcessEndedError:
        lines = "\n".join(f"  | {line}" for line in self.last_lines().splitlines()) or "  | (it wrote nothing)"
        return ProcessEndedError(f"{self.name} {what}. Its last lines:\n{lines}")


@contextmanager
def guarded(
    argv: Sequence[str | Path],
    *,
    name: str,
    folder: RunFolder,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: User | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace_s: float = 5.0,
    share: Path | None = None,
    secrets: Sequence[str] = (),
    prepare: Callable[[], object] = lambda: None,
) -> Iterator[GuardedProcess]:
    """Run ``argv`` until the block ends or this process does, however it does; then remove ``folder``.

    With ``share``, further processes may hold it beyond that, see ``shared``. ``stop_signal`` is sent first, SIGKILL
    after ``grace_s`` seconds. The process writes to a log in ``folder``; ``secrets`` are left out where that is shown.
    ``prepare`` is called before ``argv`` is run, while the guard starts.
    """
    spec = {
        "argv": [str(part) for part in argv],
        "share": str(share) if share else None,
        "env": dict(env) if env is not None else None,
        "cwd": str(cwd or folder.path),
        "uid": user.uid if user else None,
        "gid": user.gid if user else None,
        "stop_signal": int(stop_signal),
        "grace_s": grace_s,
    }
    with (folder.path / GUARD_LOG).open("wb") as log:
        keeper = subprocess.Popen(
            guard.command(folder.path),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=[folder.lock],
            bufsize=0,
        )
    process = GuardedProcess(name, folder.path, tuple(filter(None, secrets)))
    try:
        prepare()
        assert keeper.stdin  # noqa: S101  for the type checker
        keeper.stdin.write(guard.written(spec))
        process.wait_until(lambda: (folder.path / guard.LEASE_SOCKET).exists() or None, timeout_s=10, doing="starting")
        yield process
    finally:
        keeper.stdin.close()  # type: ignore[union-attr]
        if share:
            keeper.returncode = 0  # others may hold it for longer than this process lives: nothing here waits for it
        else:
            keeper.wait()


@contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Keep another process's guarded process alive for the block; ``OSError`` when its guard is gone."""
    with socket.socket(socket.AF_UNIX) as lease:
        lease.connect(os.fspath(folder / guard.LEASE_SOCKET))
        if lease.recv(1) != guard.GRANTED:
            raise ConnectionError(f"The guard of {folder} is ending.")
        yield


@dataclass(frozen=True, slots=True)
class Shared:
    """What processes of one run share: the guarded process's folder, and what to know to use it."""

    folder: str
    value: dict[str, Any]


@contextmanager
def shared(key: str, start: Callable[[Path], AbstractContextManager[Shared]]) -> Iterator[dict[str, Any]]:
    """Start something once among all processes that ask with the same ``key``; yield what is to be known of it.

    ``start`` is called with the folder to pass on as ``share``. The first to ask starts it, whoever leaves last ends
    it, and the one that started it may be gone by then.
    """
    with ExitStack() as stack:
        share, lock = folders.lock_made(lambda: _share_folder(key))
        try:
            note = share / folders.SHARE_FILE
            try:
                found = Shared(**json.loads(note.read_text()))
                stack.enter_context(leased(Path(found.folder)))
            except (OSError, ValueError):  # nobody started it yet, or it has ended meanwhile
                found = stack.enter_context(start(share))
                unfinished = share / "unfinished"
                unfinished.write_text(json.dumps(asdict(found)))
                unfinished.rename(note)
        finally:
            os.close(lock)
        yield found.value


def _share_folder(key: str) -> Path:
    with folders.base_locked() as base:
        share = base / f"share-{key}"
        share.mkdir(mode=0o700, exist_ok=True)
        return share
