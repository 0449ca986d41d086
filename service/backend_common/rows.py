"""The rows of both tables, complete: a table that has no defaults takes them as well as one that has."""

import uuid
from datetime import UTC, datetime
from typing import Any

DEFAULT_MODEL = "deterministic"


def _now() -> str:
    """Return the time with its offset: without one, the database would take it for that of its own time zone."""
    return datetime.now(UTC).isoformat()


def session_row(session_id: str, user_id: str | None) -> dict[str, Any]:
    """Return a row of ``ai_sessions``."""
    now = _now()
    return {"id": session_id, "user_id": user_id, "created_at": now, "updated_at": now}


def interaction_row(
    session_id: str, prompt: str, response: str, model_used: str | None, tokens_used: int | None
) -> dict[str, Any]:
    """Return a row of ``ai_interactions`` with an id of its own."""
    return {
        "id": str(uuid.uuid4()),
        "session_id": session_id,
        "prompt": prompt,
        "response": response,
        "model_used": model_used,
        "tokens_used": tokens_used,
        "created_at": _now(),
    }


def touched() -> dict[str, str]:
    """Return what changes in a session when something happens in it."""
    return {"updated_at": _now()}
