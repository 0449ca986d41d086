"""Carries out a plan: exactly that one, on the database it was made for, from wherever an earlier attempt got to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial

import psycopg

from session_fix.errors import MigrationIncompleteError, RolloutError, RolloutInterruptedError, SessionFixError
from session_fix.rollout import (
    binding,
    data_api,
    indexes,
    journal,
    lock,
    objects,
    preflight,
    served,
    sessions,
    steps,
    target,
)
from session_fix.rollout.data_api import DataApi
from session_fix.rollout.happening import Begun, Done, Listener, Said, Waiting, nobody
from session_fix.rollout.performing import Performer, Repair
from session_fix.rollout.plan import Plan, Step
from session_fix.rollout.preflight import Place
from session_fix.rollout.repair import repair
from session_fix.rollout.retrying import Ramp
from session_fix.rollout.version_table import noted
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS

RELOAD = "NOTIFY pgrst, 'reload schema'"  # Source: PostgREST's documentation, "Schema Cache"
VALIDATED = "0010_foreign_key_validate"  # from here on there is no orphan
ORPHANS = f"""
SELECT count(*) FROM public.{INTERACTIONS} i
WHERE NOT EXISTS (SELECT FROM public.{SESSIONS} s WHERE s.id = i.session_id)
"""

REPAIRS: Mapping[str, Repair] = {
    steps.REPAIR_PHANTOMS: partial(repair, phantoms="certain", orphans="none"),
    steps.REPAIR_ORPHANS: partial(repair, phantoms="none", orphans="create"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How a rollout went: the version it began at and the one it reached, and the steps in between."""

    plan: Plan
    before: str
    after: str
    done: tuple[Done, ...] = ()
    remarks: tuple[str, ...] = ()


def apply(
    plan: Plan,
    params: Mapping[str, str],
    *,
    allowed: Sequence[str] = (),
    typed: str = "",
    ramp: Ramp | None = None,
    repairs: Mapping[str, Repair] | None = None,
    ignore_replicas: bool = False,
    api: DataApi | None = None,
    on: Listener = nobody,
) -> Applied:
    """Carry the plan out and return how that went; a database that is past a step already goes on behind it.

    ``allowed`` names hazards, ``typed`` is the name that a production database has to be called by. No step, and no
    batch of a repair, begins before replicas have the last one, unless ``ignore_replicas``. At the end it is waited for
    ``api``. Raises ``RolloutRefusedError`` with all that is wrong, before anything was written; ``RolloutBusyError``,
    ``StepFailedError``, ``RolloutInterruptedError``: what was done is kept, and the same call goes on;
    ``MigrationIncompleteError`` when all is done and the database is not what it should be, ``StaleApiError`` when only
    the data API does not serve it.
    """
    ramp, repairs = ramp or Ramp(), REPAIRS if repairs is None else repairs
    try:
        checks = [*preflight.of_plan(plan, allowed=allowed, repairs=repairs), *preflight.of_way(params)]
        checks += [data_api.checked(api)] if api else []
        with sessions.opened(params, "preflight") as connection:
            checks += preflight.of_server(connection, plan, params, typed=typed)
            if not all(check.passes for check in checks):
                with suppress(psycopg.Error):  # a role that may not look has been said to be none by now
                    checks += preflight.of_state(connection, plan)[0]
                preflight.refuse_unless(checks)
            with lock.held(params, patience_s=ramp.patience_s, on=on) as held:
                checks, place = preflight.of_state(connection, plan)
                preflight.refuse_unless(checks)
                pending = _pending(connection, plan, place, on)
                connection.close()
                performer = Performer(
                    params, plan, held=held, ramp=ramp, repairs=repairs, ignore_replicas=ignore_replicas, on=on
                )
                applied = _performed(performer, plan, params, place, pending, on)
        if api:  # nobody has to wait for the rollout's lock meanwhile
            served.wait(api, plan, notify=partial(_reload, params), on=on)
    except KeyboardInterrupt:
        raise RolloutInterruptedError(f"Interrupted. {_where(plan, params)}") from None
    except psycopg.Error as error:
        raise target.unreadable(error, params) from None
    else:
        return applied


def _pending(connection: psycopg.Connection, plan: Plan, place: Place, on: Listener) -> list[tuple[int, Step]]:
    """Return the steps that are not done yet, with their numbers."""
    behind = journal.done(connection, plan)
    pending = [
        (number, step)
        for number, step in enumerate(plan.steps[place.behind :], start=place.behind + 1)
        if not (step.before == step.after and number in behind)  # what notes no version is noted in the journal alone
    ]
    if pending and (old := preflight.waited_for(connection, plan)):
        on(Waiting("an index will wait for transactions that are older than a minute", old))
    return pending


def _performed(
    performer: Performer,
    plan: Plan,
    params: Mapping[str, str],
    place: Place,
    pending: Sequence[tuple[int, Step]],
    on: Listener,
) -> Applied:
    done = []
    try:
        with closing(performer):
            if pending:
                performer.begin(place.at_begin)
            for number, step in pending:
                on(Begun(step, number, len(plan.steps)))
                done.append(performer.perform(step))
                on(done[-1])
    except RolloutError as error:
        raise type(error)(f"{error}\n{_where(plan, params)}") from None
    finally:
        _reload(params)
    applied = Applied(plan=plan, before=place.version, after=plan.target, done=tuple(done))
    return replace(applied, remarks=tuple(_checked(plan, params, place, on)))


def _reload(params: Mapping[str, str]) -> None:
    """Have the data API read the schema anew, after a part of the steps as after all of them."""
    with suppress(psycopg.Error, SessionFixError), sessions.opened(params, "reload") as connection:
        connection.execute(RELOAD)


def _checked(plan: Plan, params: Mapping[str, str], place: Place, on: Listener) -> list[str]:
    """Read back what there is; return what is worth a remark. Raises ``MigrationIncompleteError``."""
    ids = objects.revisions()
    with sessions.opened(params, "verify", statement_timeout_ms=0) as connection:
        versions = noted(connection)
        drift = binding.drift(objects.read(connection), plan.target, place.roles)
        failing, told = binding.remaining(drift, at_begin=place.at_begin, complete=plan.target == ids[-1])
        wrong = [binding.described([name], drift).strip() for name in failing]
        if versions != ((plan.target,) if plan.target else ()):
            noticed = ", ".join(versions) or "nothing"
            wrong.append(f"alembic_version says {noticed} instead of {plan.target or 'nothing'}")
        if plan.target in ids and ids.index(plan.target) >= ids.index(VALIDATED):
            on(Said("Looking for interactions without a session"))
            row = connection.execute(ORPHANS).fetchone()
            if row != (0,):
                wrong.append(f"{row[0] if row else '?'} interactions have no session: run `session-fix repair`")
    if wrong:
        raise MigrationIncompleteError(
            f"All {len(plan.steps)} steps are done, and the database is not what they should leave:\n- "
            + "\n- ".join(wrong)
        )
    return [f"was there before, and is none of ours: {binding.described([name], drift).strip()}" for name in told]


def _where(plan: Plan, params: Mapping[str, str]) -> str:
    """Return, for an error, where the database is now, as it says itself."""
    try:
        with sessions.opened(params, "preflight") as connection:
            versions = noted(connection)
            invalid = [one.name for one in indexes.found(connection) if not one.valid]
    except (psycopg.Error, SessionFixError):
        return "The database does not say where it is now; the same command finds that out, and goes on."
    behind = binding.place(plan, versions[0] if versions else binding.BASE)
    where = f"The database is at {', '.join(versions) or 'no version'}"
    if behind is not None:
        where += f", {behind} of {len(plan.steps)} steps are done"
    if invalid:
        where += f"; {', '.join(invalid)} is INVALID, a rerun sees to it"
    return f"{where}. The same command goes on from there."
