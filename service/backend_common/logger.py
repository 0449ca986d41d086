"""The logger that all three services share: store the session, then the interaction."""

from collections.abc import Callable
from typing import Any

from backend_common.rows import DEFAULT_MODEL


class InteractionLogger:
    """Logs interactions through ``db_service``; ``store_session`` makes sure that the session is there."""

    def __init__(self, db_service: Any, *, store_session: Callable[[str], Any]) -> None:
        self._db_service = db_service
        self._store_session = store_session

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
