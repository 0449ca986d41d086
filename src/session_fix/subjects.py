"""Which services to run: the variants that ship, or a directory somebody names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from session_fix import folders
from session_fix.errors import UsageError
from session_fix.flow import BROKEN, HEALTHY, Expectation

EXPECTED = {"before": BROKEN, "documented": HEALTHY, "fixed": HEALTHY}
VARIANTS = tuple(EXPECTED)


@dataclass(frozen=True, slots=True)
class Subject:
    """A service, and what its flow must come to."""

    name: str
    directory: Path
    expected: Expectation


def variant(name: str) -> Subject:
    """Return a service that ships. Raises ``UsageError`` for a name that is none."""
    if name not in EXPECTED:
        near = difflib.get_close_matches(name, VARIANTS, n=1)
        hint = f" Did you mean {near[0]}?" if near else " A service of your own goes to --service."
        raise UsageError(f"There is no variant {name!r}; there are {', '.join(VARIANTS)}.{hint}")
    return Subject(name, folders.bundled("service") / name, EXPECTED[name])


def named(service: str) -> Subject:
    """Return a variant by its name, or a service directory, which must be healthy. Raises ``UsageError``."""
    if service in EXPECTED:
        return variant(service)
    directory = Path(service).resolve()
    if not directory.is_dir():
        raise UsageError(f"There is no service directory {service}.")
    return Subject(directory.name, directory, HEALTHY)


def chosen(variants: Sequence[str], service: str | None) -> list[Subject]:
    """Return what a command line names, each once; all variants when it names nothing."""
    found = [variant(name) for name in dict.fromkeys(variants)]
    if service:
        found.append(named(service))
    return found or [variant(name) for name in VARIANTS]
