"""The HTTP API that all three services share; what differs between them is passed in."""

import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from backend_common.logger import InteractionLogger, by_keyword
from backend_common.responder import DeterministicResponder, Responder


class Query(BaseModel):
    """A question asked in a session."""

    session_id: str
    text: str


def build_app(
    db_service: Any,
    ai_logger: InteractionLogger,
    *,
    store_session: Callable[[str], Any] | None = None,
    responder: Responder | None = None,
) -> FastAPI:
    """Return the API.

    ``store_session`` gets the id that the frontend is about to learn; by default it is stored with
    ``create_session(session_id=...)``. What it or the logger raises becomes a 500. Without a ``responder`` a
    deterministic one answers.
    """
    store_session = store_session or by_keyword(db_service)
    app = FastAPI(title="AI backend")
    responder = responder or DeterministicResponder()

    @app.post("/session/create")
    def create_session() -> dict[str, str]:
        session_id = str(uuid.uuid4())
        store_session(session_id)
        return {"session_id": session_id}

    @app.post("/smart/query")
    def smart_query(query: Query) -> dict[str, Any]:
        answer = responder.answer(query.text)
        ai_logger.log_interaction(
            prompt=query.text,
            response=answer.response,
            model_used=answer.model_used,
            tokens_used=answer.tokens_used,
            session_id=query.session_id,
        )
        return {"session_id": query.session_id, **asdict(answer)}

    return app
