"""Named database contents a test can start from. Each is a module in ``fixtures/states/``; here they are found.

A state is decided by its name, its size and its seed: the same three give the same rows, byte for byte.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from session_fix import folders
from session_fix.errors import UsageError

DEFAULT = "empty"
HEAD = "head"
DEFAULT_SEED = 0
LARGEST = 50_000_000
LARGEST_SEED = (1 << 63) - 1
LABEL_NAME_LENGTH = 31  # with an underscore and eight digits, 40 of the 63 bytes that a name in PostgreSQL may have


def _untold(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class State:
    """One content of a database. ``size`` is 0 for a state that has no size. Made by ``state()``, which checks it."""

    name: str
    size: int
    seed: int

    @property
    def summary(self) -> str:
        """What the state is, in one sentence."""
        return str(_module(self.name).__doc__).partition("\n")[0]

    @property
    def revision(self) -> str | None:
        """The revision of the migrations that it is filled into, ``HEAD`` for the newest; None: an empty database."""
        found: str | None = _module(self.name).REVISION
        return found

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with the state's code, name, size or seed.

        The code is the state's module and what the states share. The migrations are no part of it, nor is PostgreSQL's
        version: a cache that outlives a run has to key on those, too.
        """
        found = hashlib.sha256(f"{self.name} {self.size} {self.seed}".encode())
        for path in (_folder() / f"{self.name}.py", *sorted(_folder().glob("_*.py"))):
            found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()[:16]

    @property
    def label(self) -> str:
        """A name for this state inside a database's name: at most 40 of a-z, 0-9 and underscore."""
        return f"{self.name[:LABEL_NAME_LENGTH]}_{self.digest[:8]}"

    def fill(self, connection: psycopg.Connection, progress: Callable[[int, int], None] = _untold) -> None:
        """Write the state into the database; the caller commits.

        ``progress`` is given the rows written so far and the rows in all, every now and then and at the end.
        """
        _module(self.name).fill(connection, size=self.size, seed=self.seed, progress=progress)


def names() -> tuple[str, ...]:
    """Return the names of all states, in alphabetical order."""
    return tuple(sorted(path.stem for path in _folder().glob("[!_]*.py")))


def state(name: str, *, size: int | None = None, seed: int | None = None) -> State:
    """Return a state, of its own default size unless one is given. A state without a size does not look at the seed.

    Raises ``UsageError`` for a name that is none, a size where there is none to choose, and what is out of range.
    """
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"There is no state {name!r}; there are {', '.join(names())}.{hint}")
    default = int(_module(name).SIZE)
    if not default and size is not None:
        raise UsageError(f"The state {name} has no size; leave size={size!r} out.")
    if default:
        size = _within(1, default if size is None else size, LARGEST, what=f"The size of the state {name}")
    # Not below 0: random.Random(-1) draws what random.Random(1) does.
    seed = _within(0, DEFAULT_SEED if seed is None else seed, LARGEST_SEED, what=f"The seed of the state {name}")
    return State(name, size or 0, seed)


def _within(least: int, value: Any, most: int, *, what: str) -> int:
    if type(value) is int and least <= value <= most:  # True is an int by inheritance only
        return value
    raise UsageError(f"{what} is {value!r}; it must be a whole number from {least} to {most:,}.")


def _folder() -> Path:
    return folders.bundled("fixtures") / "states"


def _module(name: str) -> Any:
    return importlib.import_module(f"session_fix.fixtures.states.{name}")
