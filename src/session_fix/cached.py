"""What this package keeps in the user's cache between runs, to be looked at and emptied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from session_fix import folders, kept
from session_fix.progress import Progress
from session_fix.rest import node
from session_fix.servers import clusters

PACKAGES, CLUSTER, FAILED = "data API packages", "PostgreSQL cluster", "database of a failed test"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the cache; ``used`` is when it was last of use, in UTC."""

    kind: str
    name: str
    size_bytes: int
    used: datetime


def entries() -> list[Entry]:
    """Return what is there, the largest kind first, and in each the most recently used."""
    return [*map(_packages, _homes()), *_others()]


def _homes() -> list[Path]:
    return sorted(folders.cache().glob(node.HOMES))


def _packages(folder: Path) -> Entry:
    return Entry(PACKAGES, folder.name, _size_bytes(folder), _changed(folder))


def _size_bytes(folder: Path) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # npm is still at work there
                found += (Path(place) / name).lstat().st_size
    return found


def _others() -> Iterator[Entry]:
    for path in clusters.kept():
        with suppress(FileNotFoundError):  # pruned at this moment
            yield Entry(CLUSTER, path.stem, path.stat().st_size, _changed(path))
    for database in kept.listed():
        yield Entry(FAILED, database.name, database.size_bytes, database.when)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def clear(progress: Progress | None = None) -> list[Entry]:
    """Remove all of it; return what was there. What a run needs, it makes again.

    An installation under way is waited for. A run that is under way has what it needs but for the data API's packages,
    of which it may yet load some.
    """
    progress = progress or Progress()
    with progress.live():
        packages = [entry for folder in _homes() for entry in _cleared(folder, progress)]
    others = list(_others())
    clusters.clear()
    kept.clear()
    return [*packages, *others]


def _cleared(folder: Path, progress: Progress) -> list[Entry]:
    """Remove the data API's packages of one version; return what was there, nothing when another run was faster."""
    if folder.is_symlink() or not folder.is_dir():
        found = _packages(folder)
        folder.unlink()
        return [found]
    try:
        descriptor = node.lock(folder, progress)
    except FileNotFoundError:
        return []
    try:
        found = _packages(folder)
        (folder / node.FINISHED).unlink(missing_ok=True)  # first: half of the packages is none
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)
    return [found]
