"""What this package keeps in the user's cache between runs, to be looked at and emptied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from session_fix import folders, kept
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
    return list(_entries())


def _entries() -> Iterator[Entry]:
    for folder in sorted(folders.cache().glob(node.HOMES)):
        size_bytes = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        yield Entry(PACKAGES, folder.name, size_bytes, _changed(folder))
    for path in clusters.kept():
        with suppress(FileNotFoundError):  # pruned at this moment
            yield Entry(CLUSTER, path.stem, path.stat().st_size, _changed(path))
    for database in kept.listed():
        yield Entry(FAILED, database.name, database.size_bytes, database.when)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def clear() -> list[Entry]:
    """Remove all of it; return what was there. What a run needs, it makes again.

    A run that is under way has what it needs but for the data API's packages, of which it may yet load some.
    """
    found = entries()
    for folder in folders.cache().glob(node.HOMES):
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink()
            continue
        (folder / node.FINISHED).unlink(missing_ok=True)  # first: half of the packages is none
        shutil.rmtree(folder)
    clusters.clear()
    kept.clear()
    return found
