"""The world that a walk goes through: a running service, the frontend of its API, and its database."""

from __future__ import annotations

import time

from session_fix.databases import Database
from session_fix.errors import ServiceError
from session_fix.events import Event, Recorder
from session_fix.flow import OK
from session_fix.frontend import Answer, Frontend
from session_fix.host import Outcome, Service
from session_fix.walks.model import Interaction, Reply, Rows
from session_fix.walks.steps import Action, Step

LAYERS = ("database", "logger", "api")


class LatestWalk(Recorder):
    """The record of the latest walk alone: hundreds are taken, and a failed test shows the last of them."""

    def begin(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            self._events.clear()
            self._began_ns = time.monotonic_ns()

    def events(self) -> list[Event]:
        """Return what was recorded since ``begin``, without steps of the walk before that were reported late."""
        return [event for event in super().events() if event.t_us >= 0]

    def sqlstates(self, *, after: int) -> list[str]:
        """Return the SQLSTATEs of the replies that were recorded after event number ``after``, in order."""
        return [
            event.fields["sqlstate"]
            for event in self.events()
            if event.seq > after and event.kind == "reply" and event.fields["sqlstate"]
        ]


class ServiceWorld:
    """A service at all its layers. Raises ``ServiceNotLoadedError`` when one of them is not there."""

    def __init__(self, service: Service, frontend: Frontend, database: Database, recorder: LatestWalk) -> None:
        service.require(*LAYERS)
        self._service = service
        self._frontend = frontend
        self._database = database
        self._recorder = recorder

    def empty(self) -> None:
        """Remove all rows, and begin a new record."""
        connection = self._database.connection
        with connection.transaction():
            connection.execute("DELETE FROM ai_interactions")
            connection.execute("DELETE FROM ai_sessions")
        self._recorder.begin()

    def take(self, step: Step, session_id: str | None) -> Reply:
        """Take a step and return its answer. Raises ``ServiceError`` when there is none."""
        known = max((event.seq for event in self._recorder.events()), default=-1)
        given = [session_id] if session_id else []
        match step.action:
            case Action.CREATE:
                return self._answered(step, self._frontend.create_session(), known)
            case Action.QUERY:
                return self._answered(step, self._frontend.query(str(session_id), str(step.prompt)), known)
            case Action.CREATE_SESSION:  # by position, as callers of the broken version pass the id
                user = {"user_id": step.user_id} if step.user_id else {}
                return _came_to(self._service.call("database", "create_session", *given, **user))
            case Action.LOG:
                named = {"session_id": session_id} if session_id else {}
                return _came_to(
                    self._service.call("logger", "log_interaction", step.prompt, step.response, **named), bare=True
                )
            case Action.DELETE:
                return self._deleted(session_id)

    def look(self) -> Rows:
        """Return what is stored."""
        connection = self._database.connection
        with connection.transaction():
            sessions = connection.execute("SELECT id::text, user_id FROM ai_sessions").fetchall()
            interactions = connection.execute(
                "SELECT id::text, session_id::text, prompt, response FROM ai_interactions"
            ).fetchall()
        return Rows(dict(sessions), {key: Interaction(*texts) for key, *texts in interactions})

    def _answered(self, step: Step, answer: Answer, known: int) -> Reply:
        if answer.status is None:
            raise ServiceError(f"{self._service.directory} has not answered {step.action.value}.")
        said = " ".join([str(answer.status), *self._recorder.sqlstates(after=known)])
        return Reply(
            f"{said} {answer.session_id or ''}".rstrip(), is_success=answer.status == OK, session_id=answer.session_id
        )

    def _deleted(self, session_id: str | None) -> Reply:
        """Delete a session as an operator would, who knows that nothing cascades."""
        connection = self._database.connection
        with connection.transaction():
            connection.execute("DELETE FROM ai_interactions WHERE session_id = %s", [session_id])
            count = connection.execute("DELETE FROM ai_sessions WHERE id = %s", [session_id]).rowcount
        return Reply("deleted" if count else "it is not there")


def _came_to(outcome: Outcome, *, bare: bool = False) -> Reply:
    """Return what a call came to; a ``bare`` one says True, and no session."""
    if outcome.error_type:
        return Reply(" ".join(filter(None, (outcome.error_type, outcome.code))), is_success=False)
    if bare:
        return Reply(str(outcome.value), is_success=outcome.value is True)
    return Reply(str(outcome.value), session_id=outcome.value if isinstance(outcome.value, str) else None)
