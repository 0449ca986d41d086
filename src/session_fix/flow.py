"""The flow of one replay, performed and recorded; and what the record says about it, decided without performing.

``perform`` runs the frontend's two steps against a service and looks into the database afterwards. ``judge`` is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from session_fix.databases import Database
from session_fix.events import Event, Recorder
from session_fix.frontend import QUERY_PATH, Frontend

TEXT = "hello"
OK = 200
SERVER_ERROR = 500
FOREIGN_KEY_VIOLATION = "23503"  # Source: PostgreSQL manual, appendix "Error Codes"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one flow came to: the query's HTTP status, every SQLSTATE in order, and the rows for the frontend's id."""

    status: int | None
    sqlstates: tuple[str, ...]
    sessions: int
    phantoms: int
    interactions: int

    def __str__(self) -> str:
        """Return it in a few words, as the verdict line prints it."""
        errors = " ".join(self.sqlstates)
        rows = f"{_counted(self.sessions, 'session')}, {_counted(self.interactions, 'interaction')}"
        phantoms = f", {_counted(self.phantoms, 'phantom')}" if self.phantoms else ""
        return f"{self.status}{' ' if errors else ''}{errors}; {rows}{phantoms}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a flow must come to. ``why`` says it in words."""

    why: str
    status: int
    sqlstates: tuple[str, ...]
    sessions: int
    phantoms: int
    interactions: int

    def mismatches(self, seen: Observation) -> list[str]:
        """Return what differs, empty when all is as expected."""
        names = ("status", "sqlstates", "sessions", "phantoms", "interactions")
        return [
            f"{name}: expected {getattr(self, name)}, observed {getattr(seen, name)}"
            for name in names
            if getattr(self, name) != getattr(seen, name)
        ]


BROKEN = Expectation(
    "the first interaction breaks the foreign key",
    *(SERVER_ERROR, (FOREIGN_KEY_VIOLATION,)),
    sessions=0,
    phantoms=2,
    interactions=0,
)
HEALTHY = Expectation("the interaction is stored in the frontend's session", OK, (), 1, 0, 1)


def perform(frontend: Frontend, database: Database, recorder: Recorder) -> None:
    """Create a session, query in it, and record the rows that the database then holds for the id the frontend got."""
    session_id = frontend.create_session().session_id
    if session_id is None:
        return
    frontend.query(session_id, TEXT)
    sessions = database.rows("SELECT count(*) FROM ai_sessions WHERE id::text = %s", session_id)
    phantoms = database.rows("SELECT count(*) FROM ai_sessions WHERE user_id = %s", session_id)
    interactions = database.rows("SELECT count(*) FROM ai_interactions WHERE session_id::text = %s", session_id)
    recorder.record(
        *("rows", "database"),
        session_id=session_id,
        sessions=sessions[0][0],
        phantoms=phantoms[0][0],
        interactions=interactions[0][0],
    )


def observe(events: Iterable[Event]) -> Observation:
    """Return what the events say the flow came to."""
    status, sqlstates = None, []
    rows = {"sessions": 0, "phantoms": 0, "interactions": 0}
    for event in events:
        if event.kind == "answer" and event.fields["path"] == QUERY_PATH:
            status = event.fields["status"]
        elif event.kind == "reply" and event.fields["sqlstate"]:
            sqlstates.append(event.fields["sqlstate"])
        elif event.kind == "rows":
            rows = {name: event.fields[name] for name in rows}
    return Observation(status, tuple(sqlstates), **rows)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``pass``, ``fail`` or ``inconclusive``, and why."""

    verdict: str
    observed: Observation
    reasons: Sequence[str]


def judge(events: Sequence[Event], expected: Expectation) -> Judgement:
    """Compare a recorded flow with what it must come to.

    A flow that never reached the database proves nothing, whatever it answered: ``inconclusive``.
    """
    observed = observe(events)
    replies = [event for event in events if event.kind == "reply"]
    if not replies:
        return Judgement("inconclusive", observed, ["the service made no call to the data API"])
    if all(reply.fields.get("reason") for reply in replies):
        return Judgement("inconclusive", observed, ["the data API answered no call of the service"])
    if reasons := expected.mismatches(observed):
        unanswered = [
            event.fields["reason"] for event in events if event.kind == "answer" and event.fields.get("reason")
        ]
        return Judgement("fail", observed, reasons + unanswered)
    return Judgement("pass", observed, [])
