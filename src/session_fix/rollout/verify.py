"""Whether a database is what its version promises, asked of the database itself.

``look`` reads, ``judge`` decides. A quiet exit of a migration proves nothing, nor does a mark in the catalog: orphans
are looked for although the foreign key is said to be valid, and what roles may do is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from session_fix.errors import RolloutRefusedError
from session_fix.rollout import drift, objects, options, probes, standing, target, versions
from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Unseen
from session_fix.rollout.probes import Probe
from session_fix.rollout.reader import Reader
from session_fix.rollout.standing import Standing
from session_fix.rollout.wanted import INTERACTIONS, RIGHTS, SESSIONS, TABLES

PROBLEM, WARNING, INFO = Severity.PROBLEM, Severity.WARNING, Severity.INFO
GRANTED = "0002_api_grants"  # from here on, rights are what the migrations say
ORPHANS = f"""
SELECT count(*) FROM public.{INTERACTIONS} i
WHERE i.session_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.{SESSIONS} s WHERE s.id = i.session_id)
"""
TOO_MANY = frozenset({"index", "constraint", "column", "trigger"})  # harmless as far as can be told from a definition


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read: ``orphans`` None where they could not be counted."""

    standing: Standing
    orphans: int | None = None
    probes: tuple[Probe, ...] = ()
    unseen: tuple[Unseen, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found, the worst first, and out of what."""

    seen: Seen
    version: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """``fail`` where something is not as promised, ``inconclusive`` where that could be, else ``pass``."""
        if any(finding.severity is PROBLEM for finding in self.findings):
            return "fail"
        return "inconclusive" if any(one.matters for one in self.seen.unseen) else "pass"


def look(params: Mapping[str, str], *, timeout_s: float) -> Seen:
    """Return what there is; rows to try rights on are written in a transaction that is rolled back.

    ``timeout_s`` is for looking for orphans. Raises ``DatabaseUnreadableError``.
    """
    found = standing.read(params)
    orphans, unseen = None, []
    tried: tuple[Probe, ...] = ()
    if found.tables == {*TABLES}:
        with target.reading(params, timeout_s=timeout_s) as (connection, _):
            reader = Reader(connection)
            counted = reader.rows(ORPHANS, what="orphans")
            orphans, unseen = counted[0][0] if counted else None, reader.unseen
        if _grants(found):
            tried, untried = probes.tried(params, found.roles)
            unseen += untried
    return Seen(found, orphans, tried, tuple(unseen))


def _grants(found: Standing) -> bool:
    known = [version for version in found.binding.versions if version in objects.revisions()]
    return bool(known) and max(known) >= GRANTED


def judge(seen: Seen) -> Verified:
    """Return the findings."""
    try:
        version = versions.current(seen.standing)
    except RolloutRefusedError as error:
        return Verified(seen, "", (_no_version(seen.standing, str(error)), *_orphans(seen)))
    if not version:
        nothing = Finding(
            "version/none", PROBLEM, "there is no version, and neither table", "`session-fix migrate plan`"
        )
        return Verified(seen, "", (nothing,))
    found = [*of_objects(seen.standing, version), *_orphans(seen), *_pending(version)]
    if version >= GRANTED:
        found += [*_rights(seen.standing), *_probes(seen.probes)]
    order = list(Severity)
    return Verified(seen, version, tuple(sorted(found, key=lambda finding: order.index(finding.severity))))


def _no_version(found: Standing, why: str) -> Finding:
    noted = found.binding.versions
    which = "none" if not found.has_versions else "empty" if not noted else "several" if len(noted) > 1 else "unknown"
    return Finding(f"version/{which}", PROBLEM, why.removesuffix(" Nothing was changed."))


def _pending(version: str) -> Iterator[Finding]:
    later = objects.revisions()[objects.revisions().index(version) + 1 :]
    if later:
        what = f"the version is {version}; {len(later)} newer revisions are still to come"
        yield Finding("version/behind", INFO, what, "`session-fix migrate plan`", len(later))


def of_objects(found: Standing, version: str) -> Iterator[Finding]:
    """Yield what differs from the version's schema; of a table that is missing, nothing but that."""
    differences = drift.differences(found, version)
    missing = {
        name.removeprefix("table ") for name, (has, _) in differences.items() if name.startswith("table ") and not has
    }
    for name, (has, wants) in differences.items():
        kind, _, rest = name.partition(" ")
        of_missing = kind != "table" and any(rest.startswith((f"{table}.", f"{table} ")) for table in missing)
        if of_missing or (kind == "grant" and not rest.endswith(" to PUBLIC")):  # others are in what a role may do
            continue
        yield _of_object(kind, rest, has, wants)


def _of_object(kind: str, rest: str, has: str | None, wants: str | None) -> Finding:
    if rest.startswith("of "):  # the triggers that keep a foreign key
        key, _, table = rest.removeprefix("of ").partition(" on ")
        kind, rest = "trigger", f"{table}.{key}"
    where = rest.replace(" to ", ".")
    what = f"{kind} {rest}: " + " ".join(
        part for part in (f"is {has}" if has else "is missing", f"instead of {wants}" if wants and has else "") if part
    )
    if has is None:
        return Finding(f"{kind}/missing/{where}", PROBLEM, f"{what}: {wants}", "See `session-fix migrate plan`.")
    state = _state(kind, has, wants)
    severity = WARNING if state == "extra" and kind in TOO_MANY else PROBLEM
    return Finding(f"{kind}/{state}/{where}", severity, what, TODO[state])


TODO = {
    "invalid": "DROP INDEX CONCURRENTLY, then build it again: `session-fix migrate plan`.",
    "not-enforced": "Make it ENFORCED: it checks nothing.",
    "not-valid": "VALIDATE CONSTRAINT, once `session-fix audit` counts no row that it refuses.",
    "disabled": "ALTER TABLE ... ENABLE TRIGGER, then look for orphans.",
    "extra": "No revision makes it: drop it, or know what it is for.",
    "differs": "Somebody changed it by hand: change it back.",
}


def _state(kind: str, has: str, wants: str | None) -> str:
    if kind == "index" and has.endswith(" INVALID"):
        return "invalid"
    if kind == "constraint" and has.endswith(" NOT ENFORCED"):
        return "not-enforced"
    if kind == "constraint" and has.endswith(" NOT VALID") and wants:
        return "not-valid"
    if kind == "trigger" and (has == "DISABLED" or has.replace(" DISABLED", "", 1) == wants):
        return "disabled"
    return "extra" if wants is None else "differs"


def _orphans(seen: Seen) -> Iterator[Finding]:
    if seen.orphans:
        what = f"{seen.orphans} interactions name a session that is not stored, whatever the foreign key says of itself"
        yield Finding("rows/orphans", PROBLEM, what, "`session-fix repair` gives them their sessions.", seen.orphans)


def _rights(found: Standing) -> Iterator[Finding]:
    for role in sorted(found.roles):
        for table in sorted(found.tables):
            has = found.rights.get(table, {}).get(role, frozenset())
            wants = RIGHTS[role] | options.rights(found.objects, table, role)
            if more := has - wants:
                what = f"{role} may do with {table} what it should not: {', '.join(sorted(more))}"
                todo = "Revoke it: from the role, from PUBLIC, or from a role that it is a member of."
                yield Finding(f"rights/too-many/{role}/{table}", PROBLEM, what, todo)
            if less := wants - has:
                what = f"{role} may not do with {table} what it should: {', '.join(sorted(less))}"
                yield Finding(f"rights/missing/{role}/{table}", PROBLEM, what, "Grant it.")


def _probes(found: tuple[Probe, ...]) -> Iterator[Finding]:
    for role in sorted({probe.role for probe in found}):
        wrong = [probe for probe in found if probe.role == role and _is_wrong(probe)]
        if wrong:
            what = f"tried as {role}, in a transaction that was rolled back: {', '.join(map(_in_words, wrong))}"
            yield Finding(
                f"probe/{role}", PROBLEM, what, "Look at its rights, at policies and at triggers.", len(wrong)
            )


def _is_wrong(probe: Probe) -> bool:
    if probe.command in RIGHTS[probe.role]:
        return probe.rows != 1
    return probe.worked


def _in_words(probe: Probe) -> str:
    came = f"refused with {probe.sqlstate}" if probe.sqlstate else f"reached {probe.rows} rows"
    return f"{probe.command} on {probe.table} {came}"
