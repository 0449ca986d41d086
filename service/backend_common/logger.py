"""The logger that all three services share: store the session, then the interaction."""

from collections.abc import Callable
from typing import Any

from backend_common.rows import DEFAULT_MODEL


def by_keyword(db_service: Any) -> Callable[[str], Any]:
    """Return how a session is stored under an id that is given: what ``before`` cannot do."""
    return lambda session_id: db_service.create_session(session_id=session_id)


class InteractionLogger:
    """Logs interactions through ``db_service``.

    ``store_session`` makes sure that the session is there, by default with ``create_session(session_id=...)``.
    """

    def __init__(self, db_service: Any, *, store_session: Callable[[str], Any] | None = None) -> None:
        self._db_service = db_service
        self._store_session = store_session or by_keyword(db_service)

    def log_interaction(
        self,
        prompt: str,
        response: str,
        model_used: str = DEFAULT_MODEL,
        tokens_used: int | None = None,
        session_id: str | None = None,
    ) -> bool:
        """Store one interaction, in a new session when none is named; say whether it is stored."""
        target_session_id = session_id or self._db_service.create_session()
        self._store_session(target_session_id)
        return bool(
            self._db_service.log_interaction(
                target_session_id, prompt, response, model_used=model_used, tokens_used=tokens_used
            )
        )
