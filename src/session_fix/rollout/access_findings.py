"""Findings about who may do what: rights of the data API's roles, row level security, policies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from session_fix.rollout import options
from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts, Policy, Table
from session_fix.rollout.pending import Expected
from session_fix.rollout.wanted import RIGHTS

PROBLEM, WARNING, INFO = Severity.PROBLEM, Severity.WARNING, Severity.INFO
BROWSERS = ("anon", "authenticated")
EVERYBODY = frozenset({"PUBLIC", *BROWSERS})
COVERED = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE"}
)  # what row level security holds back; TRUNCATE it does not
ALWAYS = re.compile(r"\(*(true|'t(rue)?'::boolean|(\d+) = \3|NOT false)\)*")
READ_ONLY, REPLICATION = "default_transaction_read_only", "session_replication_role"


def findings(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Yield rights that are missing and rights that are too many."""
    missing = [role for role in RIGHTS if role not in facts.roles]
    if len(missing) == len(RIGHTS):
        what = "the server has none of the data API's roles: it is no Supabase project"
        yield Finding("access/no-roles", INFO, what, f"Nobody holds rights as {', '.join(RIGHTS)}.")
    for role in missing if facts.roles else ():
        yield Finding(f"access/role-missing/{role}", WARNING, f"there is no role {role}")
    if "service_role" in facts.roles - facts.usage:
        what = "service_role may not use the schema public: the backend can read nothing"
        yield Finding("access/no-usage", PROBLEM, what, "GRANT USAGE ON SCHEMA public TO service_role.")
    for table in facts.tables.values():
        for role in sorted(facts.roles):
            grant = f"grant {table.name} to {role}"
            by_option = options.rights(facts.objects or {}, table.name, role)
            is_pending = expected.is_noted and not expected.is_due(grant)
            yield from _rights(table, role, by_option=by_option, is_pending=is_pending)
        is_due = table.kind != "v" and all(
            text and "row security" in text for text in expected.may_be(f"table {table.name}")
        )
        yield from _row_security(table, is_due=is_due)
        if "service_role" in facts.roles:
            yield from _locked_out(table, bypasses="service_role" in facts.bypass, is_due=is_due)
    yield from _settings(facts.settings)


def _rights(table: Table, role: str, *, by_option: frozenset[str], is_pending: bool) -> Iterator[Finding]:
    """Yield what differs in a role's rights; ``is_pending`` where the revision that grants them is yet to come."""
    has, wanted = table.rights.get(role, frozenset()), RIGHTS[role]
    if (missing := sorted(wanted - has)) and not is_pending:
        what = f"{role} may not {', '.join(missing)} on {table.name}"
        todo = f"GRANT {', '.join(missing)} ON public.{table.name} TO {role}; revision 0002_api_grants does."
        yield Finding(f"access/right-missing/{role}/{table.name}", PROBLEM, what, todo, len(missing))
    if extra := sorted(has - wanted - by_option):
        what = f"{role} may {', '.join(extra)} on {table.name}, which the migrations do not leave"
        todo = f"REVOKE it from {role}, or from PUBLIC or the role it comes from."
        held_back = table.row_security and set(extra) <= COVERED and not any(map(is_open, table.policies))
        severity = PROBLEM if role in BROWSERS and not held_back else WARNING
        yield Finding(f"access/right-extra/{role}/{table.name}", severity, what, todo, len(extra))


def _row_security(table: Table, *, is_due: bool) -> Iterator[Finding]:
    """Yield what row level security lets through; ``is_due`` where a revision has turned it on."""
    browsers = [role for role in BROWSERS if table.rights.get(role)]
    if not table.row_security:
        held_by = " and ".join(browsers)
        what = f"row level security of {table.name} is off" + (
            f", and {held_by} may get at every row" if browsers else ""
        )
        todo = "Revoke those rights, or ENABLE ROW LEVEL SECURITY with policies." if browsers else ""
        severity = PROBLEM if browsers else WARNING if is_due else INFO
        if is_due and not browsers:
            todo = f"ALTER TABLE public.{table.name} ENABLE ROW LEVEL SECURITY: a revision had turned it on."
        yield Finding(f"access/row-security-off/{table.name}", severity, what, todo)
        if table.policies:
            what = f"{table.name} has {len(table.policies)} policies, and row level security is off: they do nothing"
            todo = "ENABLE ROW LEVEL SECURITY, or drop them."
            yield Finding(f"access/policies-idle/{table.name}", WARNING, what, todo, len(table.policies))
    for policy in table.policies if table.row_security else ():
        if is_open(policy):
            what = f"the policy {policy.name} of {table.name} is always true for {', '.join(sorted(policy.roles))}"
            todo = "Drop it, or name whose rows they are. The backend's secret key needs no policy."
            yield Finding(f"access/policy-open/{table.name}/{policy.name}", PROBLEM, what, todo)


def _locked_out(table: Table, *, bypasses: bool, is_due: bool) -> Iterator[Finding]:
    """Yield that no policy is for the service key, where it needs one or where a revision has made one."""
    through = [one for one in table.policies if one.permissive and one.roles & {"PUBLIC", "service_role"}]
    if table.row_security and not through and (is_due or not bypasses):
        what = f"no policy of {table.name} lets service_role through" + (
            ", which has BYPASSRLS" if bypasses else ": the backend sees no row"
        )
        todo = f"CREATE POLICY ... ON public.{table.name} TO service_role USING (true) WITH CHECK (true)."
        yield Finding(f"access/policy-missing/{table.name}", WARNING if bypasses else PROBLEM, what, todo)


def is_open(policy: Policy) -> bool:
    """Say whether a policy lets browsers at everything: its condition cannot be false."""
    conditions = [policy.using if policy.command != "a" else None, policy.check if policy.command in "aw*" else None]
    always = any(condition is not None and ALWAYS.fullmatch(condition) for condition in conditions)
    return policy.permissive and always and bool(policy.roles & EVERYBODY)


def _settings(names: tuple[str, ...]) -> Iterator[Finding]:
    if READ_ONLY in names:
        what = f"{READ_ONLY} is kept on for the database or a role: writes may be refused with 25006"
        yield Finding("server/read-only", WARNING, what, "RESET it before the rollout, if it is meant for its role.")
    if REPLICATION in names:
        what = f"{REPLICATION} is kept at replica for the database or a role: its sessions check no foreign key"
        yield Finding("server/replication-role", PROBLEM, what, "RESET it, then look for orphans.")
    secret = [name for name in names if name not in (READ_ONLY, REPLICATION)]
    if secret:
        what = f"settings that every role can read are named like secrets: {', '.join(secret)}"
        todo = "Rotate what they hold, and keep it outside of the database."
        yield Finding("access/secret-setting", WARNING, what, todo, len(secret))
