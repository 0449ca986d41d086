"""The revisions as files for other tools: for ``supabase/migrations``, or for psql. Pure functions of the chain.

What the Supabase CLI does with a file, seen in the server's log with 2.117.0 and 3.1.0: RESET ALL, so that no setting
of the file before is left; then its statements and the note in its own history table as one implicit transaction. What
refuses to run in a transaction it sends by itself: what stands above it is committed then, and a SET stays in force.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from session_fix.errors import UsageError
from session_fix.rollout.revisions import Revision, Script

# The names of the files begin with this day and, as its time, the number of the revision in seconds.
DAY = dt.date(2026, 11, 22)
LOCK = 0x5E55_F1_0000_0001  # that of migrations/env.py
# Whoever waits for a lock stands in the way of all that come after: so a step gives up, and is tried again.
WAITS_MS = 1000
BRIEF_MS, LONG_MS = 15_000, 3_600_000  # statements that only touch the catalog, and those that read a table
READS_A_TABLE = re.compile(r"INSERT\b|DELETE\b|UPDATE\b|CREATE TEMPORARY TABLE\b|ALTER TABLE .*\bVALIDATE CONSTRAINT\b")
BUILDS = re.compile(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+) ON (\w+)\.")

IN_A_TRANSACTION = f"""\
All of this file, or nothing: it runs in one transaction. It fails with 55P03 when somebody holds a lock for longer than
{WAITS_MS // 1000} s; then nothing is changed: try again."""
BY_ITSELF = """\
CREATE INDEX CONCURRENTLY refuses to run in a transaction. It has no limit of time, because one that is cut short leaves
an INVALID index; such a one is dropped first. So after a failure try again."""
SENT_BY_ITSELF = """\
The Supabase CLI sends that statement by itself (2.117.0 and 3.1.0 do); one that does not stops at 25001, and nothing is
changed."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: its name, the revision it is of, and what is in it."""

    name: str
    revision: str
    text: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What to do with files where others lie: write ``new`` and, if it is allowed, ``changed``; ``same`` are there.

    ``renamed`` are pairs: a file to write, and one that is there of the same revision under another name.
    """

    new: tuple[File, ...]
    same: tuple[File, ...]
    changed: tuple[File, ...]
    renamed: tuple[tuple[File, str], ...]


def after(chain: Sequence[Revision], start: str, end: str) -> tuple[tuple[int, Revision], ...]:
    """Return the revisions after ``start`` ("" for all) to ``end`` ("" for the last), each with its number from 1.

    Both may be cut short as long as they mean one. Raises ``UsageError``.
    """
    first = _position(chain, start) + 1 if start else 0
    last = _position(chain, end) if end else len(chain) - 1
    if first > last:
        raise UsageError(f"There is nothing to export: {chain[last].id} does not come after {chain[first - 1].id}.")
    return tuple(enumerate(chain[first : last + 1], start=first + 1))


def _position(chain: Sequence[Revision], named: str) -> int:
    ids = [revision.id for revision in chain]
    found = [number for number, one in enumerate(ids) if one == named] or [
        number for number, one in enumerate(ids) if one.startswith(named)
    ]
    if len(found) != 1:
        what = f"means {len(found)} revisions" if found else "is no revision"
        raise UsageError(f"{named!r} {what}. There are: {', '.join(ids)}.")
    return found[0]


def supabase(number: int, revision: Revision, *, day: dt.date = DAY) -> File:
    """Return a revision as a file of ``supabase/migrations``; the same revision and day give the same file."""
    when = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=number)
    how = f"{BY_ITSELF}\n{SENT_BY_ITSELF}" if revision.up.concurrently else IN_A_TRANSACTION
    text = "\n\n".join((_comment(revision, how), *_body(revision.up)))
    return File(f"{when:%Y%m%d%H%M%S}_{revision.id}.sql", revision.id, text + "\n")


def sql(revision: Revision) -> File:
    """Return a revision as a file for psql, which notes it in ``alembic_version`` as Alembic does.

    It takes the lock of a rollout, and goes on only where the version is that of the revision before.
    """
    how = f"For psql.\n{BY_ITSELF if revision.up.concurrently else IN_A_TRANSACTION}"
    notes = tuple(f"{note};" for note in revision.up.notes)
    done = (*notes, "NOTIFY pgrst, 'reload schema';", "COMMIT;")
    if revision.up.concurrently:
        parts: tuple[str, ...] = (*_version_is(revision.before), *_body(revision.up), "BEGIN;", *done)
    else:
        timeouts, *statements = _body(revision.up)
        parts = (timeouts, "BEGIN;", *_version_is(revision.before), *statements, *done)
    psql = "\\set ON_ERROR_STOP on\nSET search_path = public;"
    text = "\n\n".join((_comment(revision, how), psql, _ALONE, *parts))
    return File(f"{revision.id}.sql", revision.id, text + "\n")


def compared(files: Sequence[File], there: Mapping[str, bytes]) -> Compared:
    """Compare files with those that are there, by name."""
    known = [file for file in files if file.name in there]
    same = tuple(file for file in known if there[file.name] == file.text.encode())
    return Compared(
        new=tuple(file for file in files if file.name not in there),
        same=same,
        changed=tuple(file for file in known if file not in same),
        renamed=tuple(
            (file, name)
            for file in files
            for name in sorted(there)
            if name != file.name and re.fullmatch(rf"\d+_{re.escape(file.revision)}\.sql", name)
        ),
    )


def _comment(revision: Revision, how: str) -> str:
    lines = [revision.id, "", *revision.doc.strip().splitlines(), "", *how.splitlines()]
    return "\n".join(f"-- {line}".rstrip() for line in lines)


def _body(script: Script) -> tuple[str, ...]:
    """Return the statements, and before them the timeouts under which they run."""
    statements = tuple(f"{statement};" for statement in script.statements)
    if not script.concurrently:
        longest = LONG_MS if any(map(READS_A_TABLE.match, script.statements)) else BRIEF_MS
        return (_timeouts(WAITS_MS, longest), *statements)
    builds = BUILDS.match(script.statements[0])
    repair = (_timeouts(WAITS_MS, BRIEF_MS), _invalid_dropped(*builds.groups())) if builds else ()
    return (*repair, _timeouts(0, 0), *statements)


def _timeouts(lock_ms: int, statement_ms: int) -> str:
    return f"SET lock_timeout = {lock_ms};\nSET statement_timeout = {statement_ms};"


def _invalid_dropped(index: str, schema: str) -> str:
    name = f"{schema}.{index}"
    invalid = f"SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('{name}')"
    return f"DO $$ BEGIN\nIF EXISTS ({invalid}) THEN\n    DROP INDEX {name};\nEND IF;\nEND $$;"


def _stopping_unless(condition: str, message: str) -> str:
    return f"DO $$ BEGIN\nIF ({condition}) IS NOT TRUE THEN\n    RAISE EXCEPTION '{message}';\nEND IF;\nEND $$;"


def _version_is(version: str) -> tuple[str, ...]:
    """Return what stops the file on a database of another version; the first revision makes the table itself."""
    if not version:
        return ()
    condition = f"SELECT array_agg(version_num::text) = ARRAY['{version}'] FROM alembic_version"
    return (_stopping_unless(condition, f"This file is for a database at {version}, and this one is not there"),)


_ALONE = _stopping_unless(f"SELECT pg_try_advisory_lock({LOCK})", "Another migration of this database is under way")
