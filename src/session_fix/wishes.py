"""What a test's markers ask for: the state its database starts from, and how it is kept apart from other tests."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from session_fix import states
from session_fix.errors import UsageError
from session_fix.isolation.shared import RESETS
from session_fix.settings import ISOLATIONS

SCOPES = ("class", "module", "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a test's ``database`` marker may ask for; by default a private database, isolated as the run is."""

    reset: str | None = None
    scope: str | None = None
    isolation: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("reset", RESETS), ("scope", SCOPES), ("isolation", ISOLATIONS)):
            if (value := getattr(self, name)) not in (None, *known):
                raise UsageError(f"@pytest.mark.database({name}={value!r}): it can be {', '.join(known)}.")
        if self.isolation and (self.reset or self.scope):
            raise UsageError(
                "@pytest.mark.database: isolation is for a private database, reset and scope for one to share."
            )


def database(item: pytest.Item) -> Wish:
    """Return what a test's ``database`` marker asks for. Raises ``UsageError``."""
    if not (marker := item.get_closest_marker("database")):
        return Wish()
    if marker.args or not marker.kwargs.keys() <= {field.name for field in fields(Wish)}:
        raise UsageError(f"@pytest.mark.database({_given(marker)}): it takes isolation=, reset= and scope=.")
    return Wish(**marker.kwargs)


def state(item: pytest.Item) -> states.State | None:
    """Return the state that a test's ``state`` marker asks for, None for a database without rows."""
    if not (marker := item.get_closest_marker("state")):
        return None
    if len(marker.args) != 1 or not marker.kwargs.keys() <= {"size", "seed"}:
        raise UsageError(f"@pytest.mark.state({_given(marker)}): it takes the name of a state, size= and seed=.")
    found = states.state(*marker.args, **marker.kwargs)
    return None if found.name == states.DEFAULT else found


def _given(marker: pytest.Mark) -> str:
    return ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
