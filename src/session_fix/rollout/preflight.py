"""What is checked before a rollout writes anything: all of it, so that everything that is wrong is said at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.rollout import (
    binding,
    blockers,
    hazards,
    indexes,
    journal,
    objects,
    options,
    pooler,
    predict,
    standing,
    version_table,
)
from session_fix.rollout.adoption import DROPS_FOREIGN_KEY
from session_fix.rollout.blockers import Session
from session_fix.rollout.facts import TRANSACTION_POOLER_PORT
from session_fix.rollout.journal import Drift
from session_fix.rollout.plan import Kind, Plan
from session_fix.rollout.wanted import TABLES, VERSION_TABLE

BY_OIDS = "oids/"
SUPABASE_HOSTS = (".supabase.co", ".supabase.com", ".supabase.in")
SUPABASE_ROLES = ("supabase_admin", "authenticator")
SERVER = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', current_database()::text,
    current_setting('server_version_num')::int / 10000,
    coalesce(shobj_description((SELECT oid FROM pg_database WHERE datname = current_database()), 'pg_database'), ''),
    ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY(%s)), current_user::text
"""
# What ALTER, CREATE OR REPLACE and DROP ask for: the rights of the owner.
OWNED = """
SELECT what, pg_get_userbyid(owner)::text FROM (
    SELECT 'table ' || relname AS what, relowner AS owner FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s) AND relkind IN ('r', 'p')
    UNION ALL
    SELECT 'function ' || proname, proowner FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proname = 'ai_sessions_touch'
    UNION ALL
    SELECT 'table session_fix.' || relname, relowner FROM pg_class
    WHERE relnamespace = to_regnamespace('session_fix') AND relname = 'rollout_steps'
) o WHERE NOT pg_has_role(owner, 'USAGE') ORDER BY 1
"""
RIGHTS = """
SELECT what FROM (VALUES
    ('CREATE on the schema public', has_schema_privilege('public', 'CREATE')),
    ('TEMPORARY on the database', has_database_privilege(current_database(), 'TEMPORARY')),
    ('CREATE on the database, or on a schema session_fix',
        CASE WHEN to_regnamespace('session_fix') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
        ELSE has_schema_privilege(to_regnamespace('session_fix'), 'CREATE, USAGE') END)
) v(what, has) WHERE NOT has
"""
ROLES = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be so: its name, what is wrong ("" when nothing is), and what to do about that."""

    name: str
    wrong: str = ""
    todo: str = ""

    @property
    def passes(self) -> bool:
        """Whether it is so."""
        return not self.wrong


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its plan a database is: the version that is noted, the steps behind it, and what differs there."""

    version: str
    behind: int
    roles: frozenset[str]
    at_begin: Drift


def refuse_unless(checks: Iterable[Check]) -> None:
    """Raise ``RolloutRefusedError`` with each check that fails, if one does."""
    if failed := [check for check in checks if not check.passes]:
        lines = "\n".join(f"- {check.wrong}\n  {check.todo}" for check in failed)
        raise RolloutRefusedError(f"Nothing was changed, because:\n{lines}")


def of_plan(plan: Plan, *, allowed: Sequence[str], repairs: Iterable[str]) -> Iterator[Check]:
    """Yield what can be said without a database: what has to be allowed is, and each step can be carried out."""
    for hazard in plan.hazards:
        steps = ", ".join(step.id for step in plan.steps if hazard in step.hazards)
        known = hazards.BY_ID.get(hazard)
        yield Check(
            f"hazard/{hazard}",
            "" if hazard in allowed else f"the plan holds the hazard {hazard}, in {steps}",
            f"{f'{known.effect} {known.todo}' if known else 'Read what the plan says of it.'} Then --allow {hazard}.",
        )
    if unknown := sorted(set(allowed) - set(plan.hazards)):
        raise UsageError(f"The plan has no hazard {', '.join(unknown)}: it has {', '.join(plan.hazards) or 'none'}.")
    limitless = [step.id for step in plan.steps if step.kind is Kind.TRANSACTION and step.lock_timeout_ms <= 0]
    yield Check(
        "plan/lock-timeout",
        f"these steps have no lock_timeout: {', '.join(limitless)}" if limitless else "",
        "Waiting without one stalls everybody behind it. Make the plan anew.",
    )
    strange = [step.id for step in plan.steps if step.kind is Kind.REPAIR and step.id not in set(repairs)]
    yield Check(
        "plan/repairs",
        f"nothing is known of these repairs: {', '.join(strange)}" if strange else "",
        "Make the plan with the same session-fix that applies it.",
    )
    for step in plan.steps:
        if step.kind is Kind.CONCURRENTLY:
            for statement in step.statements:
                indexes.wanted(statement)


def of_way(params: Mapping[str, str]) -> Iterator[Check]:
    """Yield what is wrong with the way to the database."""
    found = pooler.signs(params)
    if TRANSACTION_POOLER_PORT in params.get("port", "").split(","):
        found.append(f"port {TRANSACTION_POOLER_PORT} is that of Supabase's transaction mode")
    yield Check(
        "way/pooler",
        f"a pooler in transaction mode is in between: {'; '.join(found)}" if found else "",
        "It can hold no lock for us, and keeps no timeout. Use the database's own address, or session mode.",
    )


def of_server(
    connection: psycopg.Connection, plan: Plan, params: Mapping[str, str], *, typed: str = ""
) -> Iterator[Check]:
    """Yield what is wrong with the server, the database and the role; nothing of it changes during a rollout."""
    row = connection.execute(SERVER, (list(SUPABASE_ROLES),)).fetchone()
    assert row  # noqa: S101  a SELECT without FROM has one
    replica, read_only, database, major, comment, roles, role = row
    yield Check(
        "server/primary",
        "the server is a replica" if replica else "transactions are read-only here" if read_only else "",
        "Connect to the primary, as a role that may write.",
    )
    bound = plan.binding
    identifier = _identifier(connection, bound.system_identifier)
    for name, has, wants in (
        ("database", database, bound.database),
        ("system-identifier", identifier, bound.system_identifier),
        ("server-version", major, bound.server_version // 10_000),
    ):
        yield Check(
            f"binding/{name}",
            "" if has == wants else f"the plan is for {name.replace('-', ' ')} {wants}, this is {has}",
            "Look at the DSN; or make a plan for this database.",
        )
    marks = production_marks(params, comment, roles)
    yield Check(
        "server/production",
        "" if not marks or typed == database else f"this looks like a production database: {'; '.join(marks)}",
        f"If it is meant, pass --database {database}." if not typed else f"--database {typed} is not its name.",
    )
    tables = [*TABLES, VERSION_TABLE]
    others = [f"{what} ({owner})" for what, owner in connection.execute(OWNED, (tables,))]
    yield Check(
        "role/owner",
        f"the role {role} has not the rights of the owner of: {', '.join(others)}" if others else "",
        "Connect as the owner, or have its role granted.",
    )
    missing = [what for (what,) in connection.execute(RIGHTS)]
    yield Check(
        "role/rights",
        f"the role {role} lacks: {', '.join(missing)}" if missing else "",
        "Have it granted, or connect as another role.",
    )


def _identifier(connection: psycopg.Connection, bound: str) -> str:
    """Return what tells one server from another, in the way that the plan has it; ``bound`` where that fits."""
    if not bound.startswith(BY_OIDS):
        row = connection.execute(standing.IDENTIFIER).fetchone()
        return row[0] if row else ""
    row = connection.execute(standing.IDENTIFIER_INSTEAD, (list(TABLES),)).fetchone()
    found = row[0] if row else ""
    # its tables come and go with the first step
    return bound if f"{found}/".startswith(f"{bound}/") or f"{bound}/".startswith(f"{found}/") else found


def production_marks(params: Mapping[str, str], comment: str, roles: Sequence[str]) -> list[str]:
    """Return what says that much depends on the database. A local server, whatever it holds, is a copy of one."""
    hosts = [host for key in ("host", "hostaddr") for host in params.get(key, "").split(",") if host]
    marks = [f"its host is {host}" for host in hosts if host.endswith(SUPABASE_HOSTS)]
    if roles and not all(_is_loopback(host) for host in hosts):
        marks.append(f"it has the role {' and '.join(roles)}")
    if "production" in comment.lower():
        marks.append("its comment says so")
    return marks


def _is_loopback(host: str) -> bool:
    try:
        return host.startswith("/") or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def of_state(connection: psycopg.Connection, plan: Plan) -> tuple[list[Check], Place]:
    """Return what is wrong with the version and the schema, and where in the plan the database is.

    To be asked while the rollout's lock is held: another rollout changes both.
    """
    versions = version_table.noted(connection)
    version = versions[0] if versions else binding.BASE
    behind = binding.place(plan, version)
    roles = frozenset(name for (name,) in connection.execute(ROLES, (list(objects.ROLES),)))
    found = objects.read(connection)
    known = version == binding.BASE or version in objects.revisions()
    noted = journal.drift_at_begin(connection, plan)
    is_unknown = version == binding.BASE and bool(found) and not plan.adopts
    checks = [
        Check(
            "version/one",
            f"alembic_version holds {len(versions)} rows: {', '.join(versions)}" if len(versions) > 1 else "",
            "Two branches were migrated, or somebody wrote into it. `session-fix migrate adopt` sorts it out.",
        ),
        Check(
            "version/known",
            "" if known else f"alembic_version says {version}, which is no revision of these migrations",
            "Use the session-fix that knows it; nothing here can go on from there.",
        ),
        Check(
            "version/in-plan",
            "" if behind is not None else f"the plan does not come past the version {version or '(none)'}",
            "The database was migrated since the plan was made, or it is another. Make the plan anew.",
        ),
        Check(
            "version/noted",
            "the tables are there, and no version is noted" if is_unknown else "",
            "`session-fix migrate adopt` finds out which revision they equal, and notes it.",
        ),
    ]
    if plan.direction == "down":
        checks.append(_without_options(found))
    if not known or behind is None:
        return checks, Place(version, behind or 0, roles, {})
    if version == binding.BASE and plan.adopts and noted is not None:
        return checks, Place(version, behind, roles, noted)  # in the middle of an adoption: nothing is promised yet
    drift = binding.drift(found, version or plan.adopts, roles)
    if noted is None and versions == plan.binding.versions:
        if objects.fingerprint(found) != plan.binding.fingerprint:
            checks.append(_changed("the schema is not the one that the plan was made for", list(drift), drift))
        noted = {**drift, **_dropped_by(plan, roles)}
    at_begin = noted or {}
    if odd := binding.unexplained(drift, at_begin=at_begin, plan=plan):
        checks.append(_changed(f"the schema is not what {version or 'no revision'} leaves", odd, drift))
    return checks, Place(version, behind, roles, at_begin)


def _without_options(found: objects.Objects) -> Check:
    names = options.present(found)
    return Check(
        "options/none",
        f"the option {', '.join(names)} is there, and no earlier revision knows of it" if names else "",
        f"Take it away first: session-fix migrate option {' '.join(names)} --undo --apply",
    )


def _dropped_by(plan: Plan, roles: frozenset[str]) -> Drift:
    """Return what an adoption takes away for a revision of the same plan to make again."""
    if not any(step.id == DROPS_FOREIGN_KEY for step in plan.steps):
        return {}
    return {predict.KEY: (None, objects.of_revision(plan.adopts, roles)[predict.KEY])}


def _changed(what: str, names: Sequence[str], drift: Drift) -> Check:
    seen = f":\n{binding.described(names, drift)}" if names else " any more"
    return Check("binding/schema", what + seen, "Somebody changed it since. Find out who; then make the plan anew.")


def waited_for(connection: psycopg.Connection, plan: Plan) -> tuple[Session, ...]:
    """Return the old transactions that an index of the plan would wait for."""
    if any(step.kind is Kind.CONCURRENTLY for step in plan.steps):
        return blockers.old_transactions(connection)
    return ()
