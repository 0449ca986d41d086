"""What a test's markers ask for: the state its database starts from, and how it is kept apart from other tests."""

from __future__ import annotations

from dataclasses import dataclass

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
    marker = item.get_closest_marker("database")
    try:
        return Wish(*marker.args, **marker.kwargs) if marker else Wish()
    except TypeError as error:
        raise UsageError(f"@pytest.mark.database: {error}.") from error


def state(item: pytest.Item) -> states.State | None:
    """Return the state that a test's ``state`` marker asks for, None for a database without rows."""
    if not (marker := item.get_closest_marker("state")):
        return None
    try:
        found = states.state(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise UsageError(f"@pytest.mark.state: {error}.") from error
    return None if found.name == states.DEFAULT else found
