"""The databases of failed tests, kept in the user's cache to be opened again when their server is gone.

Each is a folder with an archive and a note of where it comes from. It gets its name last and loses it first, so what
has a name is whole. A folder without one is locked by its maker: what nobody locks, a dead process left.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from session_fix import archives, folders
from session_fix.archives import Origin
from session_fix.databases import Database
from session_fix.errors import ArchiveError, UsageError
from session_fix.servers import Server

UNFINISHED = ".unfinished-"
ARCHIVE, NOTE = "archive", "note.json"
READABLE_LENGTH = 43  # of a name, before "_" and six hexadecimal digits


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept database: its archive, the test it is from, the kind and version of its server.

    ``when`` is in UTC; of two, the one kept later has the later time.
    """

    name: str
    test: str
    path: Path
    size_bytes: int
    when: datetime
    server: str
    origin: Origin


def readable(test: str) -> str:
    """Return the beginning of a name for a test's id: the test and its parameters in [a-z0-9_], shortened."""
    place, _, parameters = test.partition("[")
    text = unicodedata.normalize("NFKD", f"{place.rpartition('::')[2]} {parameters}".lower())
    words = re.findall("[a-z0-9]+", text.encode("ascii", "ignore").decode())
    return "_".join(words)[:READABLE_LENGTH].rstrip("_") or "test"


def keep(database: Database, *, server: Server, test: str, limit: int) -> Kept | None:
    """Keep a copy of a database for the test of that id, and the newest ``limit`` in all; nothing when that is 0.

    To be called when nobody needs the database any more: see ``archives.write``. Raises ``ArchiveError``.
    """
    if limit < 1:
        return None
    try:
        with _unfinished() as folder:
            origin = archives.write(database.params, folder / ARCHIVE)
            about = {"test": test, "server": f"{server.kind} {server.version}", "origin": dataclasses.asdict(origin)}
            return _named(folder, about, limit)
    except (ArchiveError, UsageError, OSError) as error:
        raise ArchiveError(f"The database of {test} was not kept; the test has to run again. {error}") from error


def listed() -> list[Kept]:
    """Return what is kept, the newest first."""
    there = (_found(note) for note in _folder().glob(f"[!.]*/{NOTE}"))
    return sorted((kept for kept in there if kept), key=lambda kept: kept.when, reverse=True)


def find(name: str) -> Kept:
    """Return the kept database of that name. Raises ``UsageError`` with what there is."""
    there = {kept.name: kept for kept in listed()}
    if name in there:
        return there[name]
    if not there:
        raise UsageError(f"No database {name!r} is kept, nor any other; a test that fails keeps its own.")
    near = difflib.get_close_matches(name, there, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = "\n".join(f"  {kept.name}  {kept.test}" for kept in there.values())
    raise UsageError(f"No database {name!r} is kept.{hint} These are:\n{known}")


def restore(kept: Kept, params: dict[str, str], *, foreign: bool = False) -> list[str]:
    """Fill an empty database, given by libpq parameters; return the roles that its server lacked.

    See ``archives.read`` for what becomes of those, and for the errors.
    """
    try:
        return archives.read(kept.path, kept.origin, params, foreign=foreign)
    except ArchiveError as error:
        raise ArchiveError(f"The kept database {kept.name} cannot be opened. {error}") from error


def clear() -> list[Kept]:
    """Forget all of them; return what was kept."""
    with _locked():
        return _forget(listed())


def _folder() -> Path:
    return folders.cached("kept")


@contextmanager
def _locked() -> Iterator[Path]:
    """Hold the lock under which folders come, get their names, and go; yield the folder that holds them."""
    folder, descriptor = folders.lock_made(_folder)
    try:
        yield folder
    finally:
        os.close(descriptor)


@contextmanager
def _unfinished() -> Iterator[Path]:
    """Yield a new folder, locked, which is gone after the block unless it got a name."""
    with _locked() as there:
        for left in there.glob(f"{UNFINISHED}*"):
            folders.remove_if_unused(left)
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=there))
        descriptor = folders.lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _named(folder: Path, about: dict[str, Any], limit: int) -> Kept | None:
    """Give a folder its name, as the newest, and forget those that are then too many."""
    with _locked() as there:
        older = listed()
        when = datetime.now(UTC)
        if older:  # a clock may go back
            when = max(when, older[0].when + timedelta(microseconds=1))
        (folder / NOTE).write_text(json.dumps(about | {"when": when.isoformat()}))
        path = folder.rename(there / f"{readable(about['test'])}_{secrets.token_hex(3)}")
        _forget(older[limit - 1 :])
        return _found(path / NOTE)


def _found(note: Path) -> Kept | None:
    """Return what is kept there, None for what is going at this moment or not ours."""
    archive = note.with_name(ARCHIVE)
    try:
        about = json.loads(note.read_text())
        origin = Origin(**about["origin"] | {"roles": tuple(about["origin"]["roles"])})
        when = datetime.fromisoformat(about["when"])
        size_bytes = archive.stat().st_size
        return Kept(note.parent.name, about["test"], archive, size_bytes, when, about["server"], origin)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget(which: list[Kept]) -> list[Kept]:
    for folder in (kept.path.parent for kept in which):
        shutil.rmtree(folder.rename(folder.with_name(f"{UNFINISHED}{folder.name}")), ignore_errors=True)
    return which
