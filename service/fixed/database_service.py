"""The fix that ships: one atomic INSERT ... ON CONFLICT DO NOTHING, safe to repeat and to run concurrently.

Every write is idempotent by its own id, so what is in doubt is simply sent again: at most three tries of each write,
none begun after one deadline. Redirects are refused, because following one turns an insert into a read. The session's
``updated_at`` is not touched: that would be a third call for what the database can note by itself.
"""

import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # backend_common lies beside this directory

import httpx
from backend_common.client import supabase_client
from backend_common.rows import DEFAULT_MODEL, interaction_row, session_row
from postgrest.exceptions import APIError
from retries import DEADLINE_S, TIMEOUT, expect_row, with_retries
from supabase import Client, ClientOptions

FOREIGN_KEY_VIOLATION = "23503"  # Source: PostgreSQL manual, appendix "Error Codes"


UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def canonical(session_id: str) -> str:
    """Return the id as PostgreSQL shows it; by one rule, since Python and PostgreSQL each accept other forms."""
    lowered = session_id.lower()
    if not UUID.fullmatch(lowered):
        raise ValueError("The session id is not a UUID.")
    return lowered


class DatabaseService:
    """Stores sessions and interactions."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        """Store the session unless it is stored; return its id, made here when none is given.

        Raises ``ValueError`` for an id that is no UUID in its usual form, and what the data API answered.
        """
        row = session_row(canonical(session_id or str(uuid.uuid4())), user_id)
        with_retries(lambda: self._store_session(row))
        return str(row["id"])

    def log_interaction(
        self,
        session_id: str,
        prompt: str,
        response: str,
        model_used: str = DEFAULT_MODEL,
        tokens_used: int | None = None,
    ) -> bool:
        """Store the interaction, once however often it is tried; True only when the database holds our row."""
        deadline = time.monotonic() + DEADLINE_S
        row = interaction_row(canonical(session_id), prompt, response, model_used, tokens_used)
        try:
            with_retries(lambda: self._store_interaction(row), deadline)
        except APIError as error:
            if error.code != FOREIGN_KEY_VIOLATION:
                raise
            session = session_row(row["session_id"], None)  # it was deleted since it was made sure of
            with_retries(lambda: self._store_session(session), deadline)
            with_retries(lambda: self._store_interaction(row), deadline)
        return True

    def _insert(self, table: str, row: dict[str, Any]) -> Any:
        """Insert the row unless its id is there; return what the data API shows of it, [] when it was there."""
        return self.client.table(table).upsert(row, on_conflict="id", ignore_duplicates=True).execute().data

    def _store_session(self, row: dict[str, Any]) -> None:
        stored = self._insert("ai_sessions", row)
        if stored != []:  # [] is as good as the row: somebody stored it before
            expect_row(stored, row["id"])

    def _store_interaction(self, row: dict[str, Any]) -> None:
        stored = self._insert("ai_interactions", row)
        if stored == []:  # an earlier try of ours arrived after all; believe it when it is seen
            stored = self.client.table("ai_interactions").select("id").eq("id", row["id"]).execute().data
        expect_row(stored, row["id"])


db_service = DatabaseService(
    supabase_client(
        ClientOptions(
            postgrest_client_retry=False,  # its own retries sleep for seconds and know no deadline
            httpx_client=httpx.Client(follow_redirects=False, timeout=TIMEOUT),
        )
    )
)
