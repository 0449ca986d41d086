"""A counterexample as a small file that people can read and edit, and that is performed again exactly."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from session_fix.errors import UsageError
from session_fix.explore import workloads
from session_fix.explore.explorer import Exploration
from session_fix.explore.schedules import CARRIED_OUT, DROPPED, named, written
from session_fix.explore.workloads import Workload

MARKS = DROPPED + CARRIED_OUT
HEAD = """\
# An order of concurrent calls; `session-fix rerun` performs it exactly. Each letter lets the next call of that client
# through, and may be moved to another place: an order that cannot happen is refused at the call where it cannot go on.
# After "!" and "?" the client's process is killed: with "!" its call is dropped, with "?" it is carried out.
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
    marks: Mapping[int, str]


def text(found: Exploration) -> str:
    """Return the file of an exploration's counterexample."""
    assert found.counterexample  # noqa: S101  nobody asks without one
    run = found.counterexample.run
    service = found.service if not Path(found.service).is_dir() else str(Path(found.service).resolve())
    said: dict[str, str | int] = {"workload": found.workload.name, "service": service}
    said |= {"other": found.other} if found.other else {}
    said |= {"layer": found.layer, "seed": found.seed, "order": written(run.points)}
    # JSON's texts and numbers are TOML's, too, but for the two halves in which JSON escapes what is beyond U+FFFF.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
    calls = [f"#   {written([point]):3} {point.enabled[point.chosen].what}" for point in run.points]
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
    words = _text(path, found, "order").split()
    order = tuple(_client(path, word.rstrip(MARKS), workload) for word in words)
    marks = {position: word[-1] for position, word in enumerate(words) if word[-1] in MARKS}
    if any(not workload.clients[order[position]].killed for position in marks):
        raise UsageError(f"{path}: in {workload.name}, that client's process is not one to be killed.")
    return Recorded(workload, _text(path, found, "service"), other, layer, seed, order, marks)


def _text(path: Path, found: dict[str, Any], key: str) -> str:
    if not isinstance(found.get(key), str):
        raise UsageError(f"{path}: {key} must be there, as a text in quotes.")
    return str(found[key])


def _client(path: Path, letter: str, workload: Workload) -> int:
    letters = [named(number) for number in range(len(workload.clients))]
    if letter.upper() not in letters:
        raise UsageError(f"{path}: in the order, {letter!r} is no client; there are {' '.join(letters)}.")
    return letters.index(letter.upper())
