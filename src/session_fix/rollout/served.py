"""Waits until a data API serves the schema that a rollout leaves, which it knows only from its own cache.

PostgREST reads the schema at its start and at ``NOTIFY pgrst, 'reload schema'``, after 100 ms in which no other comes;
until then it plans requests by what it has read before. Source: PostgREST's documentation, "Schema Cache".
"""

from __future__ import annotations

import time
from collections.abc import Callable

from session_fix.errors import StaleApiError
from session_fix.rollout import data_api, objects
from session_fix.rollout.data_api import Answer, DataApi
from session_fix.rollout.happening import Listener, Said, Waiting, nobody
from session_fix.rollout.objects import Objects
from session_fix.rollout.plan import Plan
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS, TABLES

PATIENCE_S = 30.0
PAUSES_S = (0.2, 1.0)  # the first is longer than PostgREST waits for another NOTIFY
NOTIFY_EVERY_S = 5.0  # each makes it read the schema anew, which takes seconds where that is large


def requests(wanted: Objects) -> tuple[str, ...]:
    """Return what to ask for no row of, so that all that is wanted has to be known; nothing where no table is.

    One request where the foreign key is: a resource embedded in another takes the relationship, which only the cache
    has (else PGRST200), and both tables (else PGRST205; before PostgREST 13, PostgreSQL is asked: 42P01). Columns of a
    GET are PostgreSQL's affair (42703): PGRST204 is the answer to a write, and the cache is read as a whole. What has
    the same names before and after a rollout, such as another type of a column, no GET tells apart.
    Source: PostgREST's documentation, "Errors" and "Resource Embedding".
    """
    tables = {table: _columns(wanted, table) for table in TABLES if f"table {table}" in wanted}
    if set(tables) == {*TABLES} and _is_related(wanted):
        return (f"{SESSIONS}?select={tables[SESSIONS]},{INTERACTIONS}({tables[INTERACTIONS]})&limit=0",)
    return tuple(f"{table}?select={columns}&limit=0" for table, columns in tables.items())


def _columns(wanted: Objects, table: str) -> str:
    prefix = f"column {table}."
    return ",".join(name.removeprefix(prefix) for name in sorted(wanted) if name.startswith(prefix))


def _is_related(wanted: Objects) -> bool:
    return any(
        name.startswith(f"constraint {INTERACTIONS}.") and f"REFERENCES public.{SESSIONS}(" in definition
        for name, definition in wanted.items()
    )


def wait(api: DataApi, plan: Plan, *, notify: Callable[[], None], on: Listener = nobody) -> None:
    """Return when the data API serves what the plan's target leaves; ``notify`` has it read the schema anew.

    Raises ``StaleApiError`` with its last answer after ``PATIENCE_S`` seconds. Of several behind one URL, one answers.
    """
    wanted = requests(objects.of_revision(plan.target) if plan.target else {})
    if not wanted:
        on(Said("No table is left for the data API to serve: it is not asked"))
        return
    notified, pause_s, told = time.monotonic(), PAUSES_S[0], ""
    deadline = notified + PATIENCE_S
    while True:
        time.sleep(pause_s)
        answer = _answered(api, wanted)
        if answer.serves:
            on(Said(f"The data API at {api.host} serves {plan.target}"))
            return
        if told != (told := str(answer)):
            on(Waiting(f"the data API at {api.host} does not serve {plan.target} yet; it answers {answer}"))
        now = time.monotonic()
        if now > deadline:
            raise _stale(api, plan, answer)
        if now - notified > NOTIFY_EVERY_S:
            notify()
            notified = now
        pause_s = min(2 * pause_s, PAUSES_S[1])


def _answered(api: DataApi, wanted: tuple[str, ...]) -> Answer:
    """Return the first answer that is not as it should be, else the last."""
    answers = (data_api.ask(api, query) for query in wanted)
    answer = next(answers)
    while answer.serves and (following := next(answers, None)):
        answer = following
    return answer


def _stale(api: DataApi, plan: Plan, answer: Answer) -> StaleApiError:
    key = f" The key in {data_api.KEY_VARIABLE} is not accepted." if answer.is_refusal else ""
    return StaleApiError(
        f"All {len(plan.steps)} steps are done, and the database is what they should leave; but the data API at "
        f"{api.host} does not serve it: within {PATIENCE_S:g} s, the last that it answered was {answer}.{key} Send "
        "NOTIFY pgrst, 'reload schema' to this database, look whether that is the one it serves, restart it; then run "
        "the same command again, which has only this left to wait for."
    )
