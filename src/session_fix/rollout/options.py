"""What may be added to the schema at head by choice: a folder in ``migrations/options/`` each.

``index.sql`` is one statement that cannot share a transaction, ``up.sql`` and ``down.sql`` are a transaction each, and
``objects.json`` is what the option adds to the record of ``objects.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from session_fix import folders
from session_fix.rollout.objects import Objects

OWNER_POLICIES = "owner-policies"


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its name, its folder, and its SQL."""

    name: str
    folder: Path
    index: str
    up: str
    down: str

    @property
    def index_name(self) -> str:
        """The index that ``index`` builds, without its schema."""
        return next(name for name in of(self.name) if name.startswith("index ")).rpartition(".")[2]


def names() -> tuple[str, ...]:
    """Return the options that there are."""
    return tuple(sorted(_name(found) for found in (folders.bundled("migrations") / "options").iterdir()))


def _name(folder: Path) -> str:
    return folder.name.replace("_", "-")


@cache
def read(name: str) -> Option:
    """Return an option. Raises ``KeyError`` for one that there is not."""
    if name not in names():
        raise KeyError(name)
    folder = folders.bundled("migrations") / "options" / name.replace("-", "_")
    scripts = [(folder / f"{part}.sql").read_text(encoding="utf-8") for part in ("index", "up", "down")]
    return Option(name, folder, *scripts)


@cache
def of(name: str) -> Objects:
    """Return what an option adds to the objects at head: ``objects.of_revision(head) | options.of(name)``."""
    found: Objects = json.loads((read(name).folder / "objects.json").read_text(encoding="utf-8"))
    return found


def present(found: Objects) -> tuple[str, ...]:
    """Return the options that a schema has: those of which a policy is there, be it changed or the only one."""
    return tuple(name for name in names() if not found.keys().isdisjoint(_policies(name)))


def added(found: Objects) -> Objects:
    """Return what the options that a schema has add to it."""
    objects: dict[str, str] = {}
    for name in present(found):
        objects |= of(name)
    return objects


def rights(found: Objects, table: str, role: str) -> frozenset[str]:
    """Return what options grant to a role on a table; one whose policies are not as they should be grants nothing."""
    whole = [name for name in present(found) if all(found.get(one) == text for one, text in _policies(name).items())]
    granted = [of(name).get(f"grant {table} to {role}", "") for name in whole]
    return frozenset(right for text in granted for right in text.split(", ") if right)


def _policies(name: str) -> Objects:
    return {one: text for one, text in of(name).items() if one.startswith("policy ")}
