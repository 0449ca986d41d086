"""The database service as it was: ``create_session()`` cannot be given an id."""

import sys
import uuid
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # backend_common lies beside this directory

from backend_common.client import supabase_client
from backend_common.database import InteractionTable
from backend_common.rows import session_row


class DatabaseService(InteractionTable):
    """Stores sessions and interactions."""

    def create_session(self, user_id: str | None = None) -> str:
        """Store a session under an id made here; return that id."""
        session_id = str(uuid.uuid4())
        self.client.table("ai_sessions").insert(session_row(session_id, user_id)).execute()
        return session_id


db_service = DatabaseService(supabase_client())
