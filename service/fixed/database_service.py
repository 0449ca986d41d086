"""The fix that ships: one atomic INSERT ... ON CONFLICT DO NOTHING, safe to repeat and to run concurrently.

Every write is idempotent by its own id, so what is in doubt is simply sent again: at most three tries within one
deadline. Redirects are refused, because following one turns an insert into a read.
"""

import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # backend_common lies beside this directory

import httpx
from backend_common.client import supabase_client
from backend_common.rows import DEFAULT_MODEL, interaction_row, session_row
from postgrest.exceptions import APIError
from retries import TIMEOUT, with_retries
from supabase import Client, ClientOptions

FOREIGN_KEY_VIOLATION = "23503"  # Source: PostgreSQL manual, appendix "Error Codes"


class NotStoredError(Exception):
    """The data API answered without an error, but not with our row."""


class DatabaseService:
    """Stores sessions and interactions."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        """Store the session unless it is stored; return its id, made here when none is given."""
        session_id = session_id or str(uuid.uuid4())
        row = session_row(session_id, user_id)
        with_retries(lambda: self._store("ai_sessions", row))
        return session_id

    def log_interaction(
        self,
        session_id: str,
        prompt: str,
        response: str,
        model_used: str = DEFAULT_MODEL,
        tokens_used: int | None = None,
    ) -> bool:
        """Store the interaction, once however often it is tried; True only when the database holds our row."""
        row = interaction_row(session_id, prompt, response, model_used, tokens_used)
        try:
            with_retries(lambda: self._store("ai_interactions", row))
        except APIError as error:
            if error.code != FOREIGN_KEY_VIOLATION:
                raise
            self.create_session(session_id=session_id)  # it was deleted since it was made sure of
            with_retries(lambda: self._store("ai_interactions", row))
        return True

    def _store(self, table: str, row: dict[str, Any]) -> None:
        """Insert the row unless its id is there. Raises ``NotStoredError`` unless the database shows that id."""
        stored = self.client.table(table).upsert(row, on_conflict="id", ignore_duplicates=True).execute().data
        if stored == []:  # an ignored duplicate: a session made before, or an earlier try of ours
            stored = self._read_back(table, row["id"])
        if not isinstance(stored, list) or not stored or stored[0].get("id") != row["id"]:
            raise NotStoredError(f"{table} did not show the row that was sent.")

    def _read_back(self, table: str, row_id: str) -> Any:
        return self.client.table(table).select("id").eq("id", row_id).execute().data


db_service = DatabaseService(
    supabase_client(
        ClientOptions(
            postgrest_client_retry=False,  # its own retries sleep for seconds and know no deadline
            httpx_client=httpx.Client(follow_redirects=False, timeout=TIMEOUT),
        )
    )
)
