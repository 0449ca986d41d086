"""A service that makes four calls for each query, whatever it finds: two queries have 70 orders.

What it does not define itself is that of ``documented``, which has to be on the path.
"""

import uuid

from backend_common.client import supabase_client
from backend_common.database import InteractionTable
from backend_common.rows import session_row


class DatabaseService(InteractionTable):
    """Stores sessions and interactions; another two calls store an interaction."""

    def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        """Look for the session, and store it unless it is stored; return its id, made here when none is given."""
        row = session_row(session_id or str(uuid.uuid4()), user_id)
        sessions = self.client.table("ai_sessions")
        sessions.select("id").eq("id", row["id"]).execute()
        sessions.upsert(row, on_conflict="id", ignore_duplicates=True).execute()
        return str(row["id"])


db_service = DatabaseService(supabase_client())
