"""What there is to repair, what was repaired and what was undone: as text of 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from session_fix.rollout.repair.outcome import Found, Repaired, Undone

WIDTH, INDENT = 80, 14
NAMED = 10  # of what was refused; all of it is in the JSON
ROWS_PER_S = 5000  # on a machine of two cores, see docs/operator.md


def found_text(found: Found, *, phantoms: str, orphans: str) -> str:
    """Return what there is, and what --apply would do about it."""
    lines = [*_phantoms(found, phantoms), *_orphans(found, orphans)] if _todo(found, phantoms, orphans) else []
    if not lines:
        return "nothing to repair"
    about_s = _todo(found, phantoms, orphans) / ROWS_PER_S
    about = f"Nothing was changed. --apply does it, in about {max(1, about_s):,.0f} s where nobody is in the way."
    return "\n".join([*lines, "", *textwrap.wrap(about, WIDTH)])


def _todo(found: Found, phantoms: str, orphans: str) -> int:
    merging = found.phantoms if phantoms != "none" else 0
    if orphans == "none":
        return merging
    known, accounted = (found.known, found.with_phantoms) if merging else (0, 0)
    return merging + (found.missing - known if orphans == "create" else found.orphans - accounted)


def _phantoms(found: Found, phantoms: str) -> Iterator[str]:
    if phantoms == "none" or not found.phantoms:
        return
    sure = "" if found.certain == found.phantoms else f", {found.certain:,} for certain and the others likely"
    yield from _counted(
        found.phantoms,
        f"phantoms of {found.sessions:,} sessions{sure}: {found.stored:,} of those sessions are stored, the other "
        f"{found.sessions - found.stored:,} would be, and the phantoms go",
    )


def _orphans(found: Found, orphans: str) -> Iterator[str]:
    if orphans == "none" or not found.orphans:
        return
    what = {
        "create": f"would be stored: {found.missing:,} of them, {found.known:,} in place of phantoms",
        "quarantine": "they would be put into session_fix.quarantined_interactions, unless phantoms stand for it",
        "delete": "they would be deleted, unless phantoms stand for it, with a copy in the journal",
    }[orphans]
    yield from _counted(found.orphans, f"interactions whose session is not stored: {what}")


def repaired_text(done: Repaired) -> str:
    """Return what was done, and what is left."""
    numbers = {
        "phantoms merged": done.merged,
        "sessions stored in their place": done.sessions_stored,
        "stored sessions that now begin with their first phantom, or end with the last": done.sessions_changed,
        "sessions stored for interactions that name them": done.sessions_created,
        "interactions put into session_fix.quarantined_interactions": done.quarantined,
        "interactions deleted": done.deleted,
        "left as they are: in use, referred to by other tables, or new": done.left,
    }
    lines = [line for what, number in numbers.items() if number for line in _counted(number, what)]
    told = f"{done.batches:,} batches in {done.took_s:.1f} s, the longest {done.longest_ms:,.0f} ms"
    undo = [f"To undo it: session-fix repair --undo {done.run}"] if done.changes else []
    return "\n".join([*(lines or ["nothing to repair"]), "", told, *undo])


def undone_text(done: Undone) -> str:
    """Return what was put back, and what was not."""
    lines = list(_counted(done.restored, "rows put back as they were"))
    if done.refused:
        sessions = len({one.session_id for one in done.refused})
        lines += _counted(sessions, "sessions left as they are, because of these rows:")
        lines += [f"{'':{INDENT}}{one.table} {one.id}\n{'':{INDENT}}  {one.why}" for one in done.refused[:NAMED]]
        if (more := len(done.refused) - NAMED) > 0:
            lines.append(f"{'':{INDENT}}and {more:,} more; --json FILE has them all")
    return "\n".join([*lines, "", f"{done.batches:,} batches in {done.took_s:.1f} s"])


def interrupted(told: Sequence[Repaired | Undone]) -> str:
    """Return what to say after Ctrl-C, with the counts that were told last if there are any."""
    done = "nothing was changed yet"
    if told:
        last = told[-1]
        number = last.changes if isinstance(last, Repaired) else last.restored
        done = f"{number:,} rows in {last.batches:,} batches are done and kept"
    return "\n".join(
        textwrap.wrap(
            f"session-fix: interrupted; {done}, the batch under way was rolled back. The same command goes on.", WIDTH
        )
    )


def found_json(found: Found, *, phantoms: str, orphans: str) -> dict[str, Any]:
    """Return what there is as JSON has it."""
    todo = _todo(found, phantoms, orphans)
    return {"verdict": "fail" if todo else "pass", "applied": False, "to_repair": todo} | dataclasses.asdict(found)


def repaired_json(done: Repaired) -> dict[str, Any]:
    """Return what was done as JSON has it."""
    return {"verdict": "fail" if done.left else "pass", "applied": True} | dataclasses.asdict(done)


def undone_json(done: Undone) -> dict[str, Any]:
    """Return what was put back as JSON has it."""
    return {"verdict": "fail" if done.refused else "pass", "applied": True} | dataclasses.asdict(done)


def _counted(number: int, what: str) -> Iterable[str]:
    text = textwrap.wrap(what, WIDTH - INDENT)
    return [f"{number:>{INDENT - 2},}  {text[0]}", *(f"{'':{INDENT}}{line}" for line in text[1:])]
