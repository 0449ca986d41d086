"""A counterexample as a small file that people can read and edit, and that is performed again exactly."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from session_fix.errors import UsageError
from session_fix.explore import workloads
from session_fix.explore.explorer import Exploration
from session_fix.explore.schedules import named
from session_fix.explore.workloads import Workload

HEAD = """\
# An order of concurrent calls; `session-fix rerun` performs it exactly. Each letter lets the next call of that client
# through, and may be moved to another place: an order that cannot happen is refused at the call where it cannot go on.
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the file says."""

    workload: Workload
    service: str
    other: str
    layer: str
    seed: int
    order: tuple[int, ...]


def text(found: Exploration) -> str:
    """Return the file of an exploration's counterexample."""
    assert found.counterexample  # noqa: S101  nobody asks without one
    run = found.counterexample.run
    service = found.service if not Path(found.service).is_dir() else str(Path(found.service).resolve())
    said: dict[str, str | int] = {"workload": found.workload.name, "service": service}
    said |= {"other": found.other} if found.other else {}
    said |= {"layer": found.layer, "seed": found.seed, "order": " ".join(map(named, run.order))}
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]  # JSON's texts and numbers are TOML's, too
    calls = [f"#   {named(point.chosen)}  {point.enabled[point.chosen].what}" for point in run.points]
    why = [f"# {violation.invariant}: {violation.summary}" for violation in found.counterexample.violations]
    return "\n".join([HEAD + lines[0], *lines[1:], "", *why, *calls])


def load(path: Path) -> Recorded:
    """Return what a file says. Raises ``UsageError`` that names the key."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no schedule: {error}") from error
    if unknown := found.keys() - {"workload", "service", "other", "layer", "seed", "order"}:
        raise UsageError(f"{path}: {min(unknown)} is nothing that a schedule says.")
    workload = workloads.named(_text(path, found, "workload"))
    layer = _text(path, found, "layer")
    if layer not in workload.layers:
        raise UsageError(f"{path}: layer must be {' or '.join(workload.layers)}, not {layer!r}.")
    seed = found.get("seed", 1)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"{path}: seed must be a whole number.")
    other = _text(path, found, "other") if "other" in found else ""
    order = tuple(_client(path, letter, workload) for letter in _text(path, found, "order").split())
    return Recorded(workload, _text(path, found, "service"), other, layer, seed, order)


def _text(path: Path, found: dict[str, Any], key: str) -> str:
    if not isinstance(found.get(key), str):
        raise UsageError(f"{path}: {key} must be there, as a text in quotes.")
    return str(found[key])


def _client(path: Path, letter: str, workload: Workload) -> int:
    letters = [named(number) for number in range(len(workload.clients))]
    if letter.upper() not in letters:
        raise UsageError(f"{path}: in the order, {letter!r} is no client; there are {' '.join(letters)}.")
    return letters.index(letter.upper())
