"""Initialised and migrated database clusters in the user's cache: a server starts from a copy of one in milliseconds.

An entry is one tar file whose name says what is in it and ends in a digest of everything that decided its contents. It
gets that name when it is complete and on disk, so whatever has the name may be used, and no reader needs a lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from session_fix import folders

FOLDER = "clusters"
SUFFIX = ".tar"
UNFINISHED = "unfinished-"
TITLE_LENGTH = 100  # of the 255 bytes that a file's name may have
LIMIT_BYTES = 1 << 30  # some thirty small clusters; the least recently used go first
FORMAT = 5  # raise it when a cluster is built differently without anything in its key changing


def folder() -> Path:
    """Return the folder of the kept clusters, made if need be."""
    return folders.cached(FOLDER)


def opened(title: str, depends_on: Mapping[str, object], build: Callable[[IO[bytes]], None]) -> BinaryIO:
    """Return a kept cluster, open for reading; ``build`` writes it when nobody has.

    ``depends_on`` holds everything that decides what ``build`` writes, as JSON. Of several processes that ask at the
    same time one builds and the others wait for it.
    """
    path = _path(title, depends_on)
    try:
        return _used(path)
    except FileNotFoundError:
        with folders.locked(folder()):
            if not path.exists():
                _write(path, build)
                prune(keep=path)
            return _used(path)


def _path(title: str, depends_on: Mapping[str, object]) -> Path:
    digest = hashlib.sha256(json.dumps({"format": FORMAT} | dict(depends_on), sort_keys=True).encode()).hexdigest()
    return folder() / f"{re.sub('[^a-z0-9.+]+', '-', title.lower())[:TITLE_LENGTH]}-{digest[:16]}{SUFFIX}"


def _used(path: Path) -> BinaryIO:
    found = path.open("rb")
    with suppress(OSError):  # somebody else's cache, or one that cannot be written
        os.utime(found.fileno())  # its modification time says when it was last of use
    return found


def _write(path: Path, build: Callable[[IO[bytes]], None]) -> None:
    _sweep()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as unfinished:
            build(unfinished)
            unfinished.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _sweep() -> None:
    """Remove what dead builders left; for whoever holds the folder's lock."""
    for unfinished in folder().glob(f"{UNFINISHED}*"):
        unfinished.unlink()


def kept() -> list[Path]:
    """Return the kept clusters, the most recently used first."""
    used: dict[Path, float] = {}
    for path in folder().glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # pruned at this moment
            used[path] = path.stat().st_mtime
    return sorted(used, key=lambda path: used[path], reverse=True)


def prune(*, keep: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> list[Path]:
    """Remove the least recently used clusters beyond ``limit_bytes`` in all, ``keep`` never; return what was removed.

    For whoever holds the folder's lock. A run that is reading one keeps what it has opened.
    """
    removed, size_bytes = [], keep.stat().st_size if keep else 0
    for path in kept():
        if path != keep:
            size_bytes += path.stat().st_size
            if size_bytes > limit_bytes:
                path.unlink()
                removed.append(path)
    return removed


def clear() -> list[Path]:
    """Remove all of them; return what was removed."""
    with folders.locked(folder()):
        _sweep()
        return prune(limit_bytes=-1)


def remove(path: Path) -> None:
    """Remove one cluster, so that the next who asks makes it again."""
    with folders.locked(folder()):
        path.unlink(missing_ok=True)
