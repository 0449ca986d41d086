"""Where things lie: what ships with the package, the user's cache, and the folders of a run, which vanish with it.

A run folder is locked (``flock`` on the folder itself) as long as its guard lives. What nobody locks is swept by the
next run: the lock is the kernel's, so no kind of death leaves it behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

import session_fix
from session_fix import guard
from session_fix.errors import UsageError

SHARE_FILE = guard.SHARE_FILE
SHM = Path("/dev/shm")  # noqa: S108  RAM on Linux; the folder made in it is checked for its owner
SHM_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder of this run, and the descriptor whose lock says that it is in use."""

    path: Path
    lock: int


def bundled(name: str) -> Path:
    """Return the folder ``migrations``, ``scenarios``, ``service`` or ``fixtures`` that ships with this package."""
    for parent in session_fix.__path__:
        if (found := Path(parent) / name).is_dir():
            return found
    raise FileNotFoundError(f"{name}/ is missing from the installed package; install session-fix again.")


def cache() -> Path:
    """Return the user's cache folder, made if need be. Source of its place: ``platformdirs``."""
    path = Path(os.environ.get("SESSION_FIX_CACHE") or platformdirs.user_cache_dir("session-fix", appauthor=False))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The cache {path} cannot be made ({error.strerror}); set SESSION_FIX_CACHE.") from error
    return path


def cached(name: str) -> Path:
    """Return a folder of the cache that only its owner may enter, made if need be."""
    path = cache() / name
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The cache {path} cannot be made ({error.strerror}); set SESSION_FIX_CACHE.") from error
    return path


def fastest_temporary() -> Path:
    """Return RAM where Linux offers at least a gibibyte of it, else the temporary folder."""
    if sys.platform == "linux" and os.access(SHM, os.W_OK) and shutil.disk_usage(SHM).free >= SHM_FREE_BYTES:
        return SHM
    return Path(tempfile.gettempdir())


def runs() -> Path:
    """Return the folder that holds every run's folders of this user, made if need be.

    Root's may be entered (not listed) by others, since its PostgreSQL runs as another user.
    Raises ``PermissionError`` when somebody else made a folder of that name first.
    """
    base = fastest_temporary() / f"session-fix-{os.geteuid()}"
    mode = 0o711 if os.geteuid() == 0 else 0o700
    with suppress(FileExistsError):
        base.mkdir(mode=mode)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{base} belongs to somebody else; remove it, or set TMPDIR to a folder of your own.")
    base.chmod(mode)
    return base


def lock(folder: Path, *, blocking: bool = True) -> int:
    """Take the exclusive lock of a folder; return the descriptor to close.

    Raises ``BlockingIOError`` when it is taken and ``blocking`` is false, ``FileNotFoundError`` when the folder is gone
    by the time the lock is there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        if os.stat(folder).st_ino != os.fstat(descriptor).st_ino:  # noqa: PTH116  beside fstat
            raise FileNotFoundError(  # noqa: TRY301  as os.open() says it when the folder went a moment earlier
                f"{folder} was replaced while its lock was waited for."
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder for the block, once it is free."""
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def lock_made(make: Callable[[], Path]) -> tuple[Path, int]:
    """Make a folder and take its lock, again if an ending run removed it in between; return both."""
    while True:
        with suppress(FileNotFoundError):
            folder = make()
            return folder, lock(folder)


@contextmanager
def base_locked() -> Iterator[Path]:
    """Hold the lock under which run folders come and go; yield the folder that holds them."""
    base, descriptor = lock_made(runs)
    try:
        yield base
    finally:
        os.close(descriptor)


@contextmanager
def run_folder(name: str) -> Iterator[RunFolder]:
    """Yield a new private, locked folder; on exit it is removed unless a guard still holds its lock."""
    with base_locked() as base:
        _sweep(base)
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield RunFolder(path, descriptor)
    finally:
        os.close(descriptor)
        remove_if_unused(path)
        guard.remove_if_empty(path.parent)


def sweep() -> list[Path]:
    """Remove what dead runs of this user left behind; return the folders removed."""
    with base_locked() as base:
        return _sweep(base)


def _sweep(base: Path) -> list[Path]:
    return [
        folder for folder in base.iterdir() if folder.is_dir() and not folder.is_symlink() and remove_if_unused(folder)
    ]


def remove_if_unused(folder: Path) -> bool:
    """Remove a run's folder when nobody holds its lock and nothing shared stands behind it; say whether it is gone."""
    try:
        descriptor = lock(folder, blocking=False)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    try:
        if not _stands_for_another(folder):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
    return not folder.exists()


def _stands_for_another(folder: Path) -> bool:
    try:
        return Path(json.loads((folder / SHARE_FILE).read_text())["folder"]).exists()
    except (OSError, ValueError, KeyError, TypeError):  # no note, or none of ours
        return False
