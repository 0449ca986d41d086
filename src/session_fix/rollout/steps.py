"""The steps from one revision to another, up or down, out of the migrations and of where a database stands. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from session_fix.errors import UsageError
from session_fix.rollout import estimate, hazards, objects, predict, revisions, versions
from session_fix.rollout.plan import Kind, Step
from session_fix.rollout.revisions import Revision, Script
from session_fix.rollout.standing import Standing
from session_fix.rollout.wanted import VERSION_TABLE

# Who stands behind a lock that is waited for waits as long, so 10 ms for what would stop writers: with retries, the
# worst stall was 16 ms, that with 200 ms 266, in the same total time. What stops nobody may wait.
BRIEF_LOCK_TIMEOUT_MS, PATIENT_LOCK_TIMEOUT_MS, NO_TIMEOUT = 10, 5_000, 0

REPAIR_PHANTOMS, REPAIR_ORPHANS = "repair-phantoms", "repair-orphans"
# What is repaired in batches before a revision does the same to what is left.
REPAIRS: Mapping[str, tuple[str, str]] = {
    "0007_merge_phantom_sessions": (
        REPAIR_PHANTOMS,
        "Sessions that the broken backend stored under another id are merged, in batches.",
    ),
    "0009_repair_orphans": (REPAIR_ORPHANS, "Interactions without a session get theirs, in batches."),
}
RESUMES = {
    Kind.TRANSACTION: "Killed in the middle, nothing of it is there: a rerun does it from its beginning.",
    Kind.CONCURRENTLY: (
        "A rerun looks at the index first: one that is as wanted is only noted, one that is INVALID is dropped "
        "CONCURRENTLY, and one that the server is still building is waited for."
    ),
    Kind.REPAIR: "Batches that were committed stay; a rerun goes on with what is left.",
}


def up(standing: Standing, to: str = versions.HEAD) -> tuple[Step, ...]:
    """Return the steps from a database's version to a newer revision, none where it is there.

    Nothing in them is measured. Raises ``RolloutRefusedError`` where the version cannot be told, and ``UsageError``
    where ``to`` is older or no revision.
    """
    before, wanted = versions.current(standing), versions.named(to)
    order = ["", *objects.revisions()]
    if order.index(wanted) < order.index(before):
        raise UsageError(f"The database is at {before}, which is newer than {wanted}: `migrate rollback` goes back.")
    chain = revisions.chain()[order.index(before) : order.index(wanted)]
    return tuple(finished(step, standing) for step in _upwards(chain, standing))


def _upwards(chain: tuple[Revision, ...], standing: Standing) -> Iterator[Step]:
    for revision in chain:
        if revision.id in REPAIRS and standing.tables:
            name, title = REPAIRS[revision.id]
            version, text = revision.before, RESUMES[Kind.REPAIR]
            yield Step(id=name, title=title, kind=Kind.REPAIR, before=version, after=version, resumes=text)
        notes = revision.up.notes
        if not revision.before and standing.has_versions:  # as a downgrade to base leaves it, without a row
            notes = tuple(note for note in notes if not note.startswith(f"CREATE TABLE {VERSION_TABLE}"))
        step = _step(revision, revision.up, revision.down, standing, promised=revision.before)
        yield dataclasses.replace(step, before=revision.before, after=revision.id, notes=notes)


def down(standing: Standing, to: str) -> tuple[Step, ...]:
    """Return the steps from a database's version back to an older revision, ``base`` for none at all.

    Nothing in them is measured. Raises ``RolloutRefusedError`` where the version cannot be told, and ``UsageError``
    where ``to`` is newer or no revision.
    """
    before, wanted = versions.current(standing), versions.named(to)
    order = ["", *objects.revisions()]
    if order.index(wanted) > order.index(before):
        raise UsageError(
            f"The database is at {before or 'no revision'}, which is older than {wanted}: see `migrate plan`."
        )
    chain = revisions.chain()[order.index(wanted) : order.index(before)]
    return tuple(finished(step, standing) for step in _downwards(chain[::-1], standing))


def _downwards(chain: tuple[Revision, ...], standing: Standing) -> Iterator[Step]:
    for revision in chain:
        step = _step(revision, revision.down, revision.up, standing, promised=revision.id)
        yield dataclasses.replace(
            step, title=f"Undo: {step.title}", before=revision.id, after=revision.before, notes=revision.down.notes
        )


def _step(revision: Revision, script: Script, undone_by: Script, standing: Standing, *, promised: str) -> Step:
    kind = Kind.CONCURRENTLY if script.concurrently else Kind.TRANSACTION
    schema = predict.Schema(
        _objects_at(promised, standing, revision.id), standing.roles, standing.binding.server_version
    )
    told = predict.predicted(script.statements, schema)
    return Step(
        id=revision.id,
        title=revision.title,
        kind=kind,
        before="",
        after="",
        statements=script.statements,
        predicted=told.locks,
        rewrites=told.rewrites,
        scans=told.scans,
        lock_timeout_ms=_lock_timeout_ms(kind, {lock.mode for lock in told.locks}),
        resumes=RESUMES[kind],
        down=undone_by.statements,
    )


def _lock_timeout_ms(kind: Kind, modes: set[str]) -> int:
    if kind is Kind.CONCURRENTLY:
        return NO_TIMEOUT
    return BRIEF_LOCK_TIMEOUT_MS if modes & predict.STOPS_WRITERS else PATIENT_LOCK_TIMEOUT_MS


def _objects_at(version: str, standing: Standing, revision: str) -> objects.Objects:
    """Return what will be there before a step: what the version before promises, with the database's foreign key.

    That may be missing until 0008 adds it, and not be valid until 0010 has checked it.
    """
    there = dict(versions.promised(version, standing.roles))
    found = standing.objects.get(predict.KEY)
    if predict.KEY in there and standing.tables and found != there[predict.KEY]:
        added, validated = revision > "0008_foreign_key_not_valid", revision > "0010_foreign_key_validate"
        if found is None and not added:
            del there[predict.KEY]
        elif not validated:
            there[predict.KEY] = f"{there[predict.KEY]} NOT VALID"
    return there


def finished(step: Step, standing: Standing) -> Step:
    """Return the step with what follows from what it does, be that predicted or measured: time, timeout, hazards."""
    seconds = estimate.seconds(step, standing)
    step = dataclasses.replace(
        step,
        estimate_s=seconds,
        statement_timeout_ms=estimate.statement_timeout_ms(step.kind, seconds),
        lock_timeout_ms=_lock_timeout_ms(step.kind, {lock.mode for lock in step.measured or step.predicted}),
    )
    return dataclasses.replace(step, hazards=hazards.of(step, standing))
