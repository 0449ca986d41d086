"""The state of a rollout: where a database stands, what is still to come, what was cut short, who is at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_fix.errors import RolloutRefusedError
from session_fix.rollout import drift, lock, objects, standing, target, verify, versions
from session_fix.rollout.finding import Severity
from session_fix.rollout.found import Unseen
from session_fix.rollout.reader import Reader
from session_fix.rollout.standing import Standing
from session_fix.rollout.versions import Differences, Likeness

HOLDERS = f"""
SELECT l.pid, coalesce(a.application_name, '') FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = {lock.KEY}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
"""
HAS_JOURNAL = """
SELECT FROM pg_class WHERE relnamespace::regnamespace::text = 'session_fix' AND relname = 'rollout_steps'
"""
# Of the plan that was begun last, whose own row is the one in position 0.
JOURNAL = """
SELECT plan, step, state, started_at::text FROM session_fix.rollout_steps
WHERE position > 0 AND plan = (SELECT plan FROM session_fix.rollout_steps ORDER BY started_at DESC LIMIT 1)
ORDER BY position
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """A step of the last plan, as ``apply`` noted it: its state is running or done."""

    plan: str
    step: str
    state: str
    started_at: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds the lock of a rollout."""

    pid: int
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What was found; ``version`` is None where it cannot be told, with the reason in ``why``."""

    standing: Standing
    version: str | None
    why: str = ""
    like: Likeness
    differences: Differences
    noted: tuple[Noted, ...] = ()
    holders: tuple[Holder, ...] = ()
    unseen: tuple[Unseen, ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The revisions that are still to come."""
        order = ["", *objects.revisions()]
        return () if self.version is None else tuple(order[order.index(self.version) + 1 :])

    @property
    def invalid(self) -> tuple[str, ...]:
        """The indexes that are not valid: a build was cut short, or is under way."""
        found = self.standing.objects.items()
        return tuple(name.removeprefix("index ") for name, text in found if text.endswith(" INVALID"))

    @property
    def interrupted(self) -> tuple[str, ...]:
        """The steps that were begun and not finished, while nobody is at work."""
        return () if self.holders else self.unfinished

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The steps of the last plan that are noted as begun and not as done."""
        return tuple(one.step for one in self.noted if one.state != "done")

    @property
    def is_settled(self) -> bool:
        """Whether the newest revision is noted, the schema is what it promises, and nobody is at a step.

        What a plan left unfinished does not count then: somebody else has finished it.
        """
        at_work = self.holders and self.unfinished
        if self.version is None or self.pending or self.invalid or at_work or self.unseen:
            return False
        wrong = verify.of_objects(self.standing, self.version)
        return not any(finding.severity is Severity.PROBLEM for finding in wrong)


def look(params: Mapping[str, str]) -> Status:
    """Return the state of the database at these libpq parameters. Raises ``DatabaseUnreadableError``."""
    found = standing.read(params)
    with target.reading(params, timeout_s=standing.TIMEOUT_S) as (connection, _):
        reader = Reader(connection)
        there = connection.execute(HAS_JOURNAL).fetchone() is not None
        noted = (reader.rows(JOURNAL, what="session_fix.rollout_steps") or []) if there else []
        holders = connection.execute(HOLDERS).fetchall()
        unseen = tuple(reader.unseen)
    version, why = None, ""
    try:
        version = versions.current(found)
    except RolloutRefusedError as error:
        why = str(error)
    like = versions.likeness(found.objects, found.roles)
    return Status(
        standing=found,
        version=version,
        why=why,
        like=like,
        differences=like.differences if version is None else drift.differences(found, version),
        noted=tuple(Noted(*row) for row in noted),
        holders=tuple(Holder(*row) for row in holders),
        unseen=unseen,
    )
