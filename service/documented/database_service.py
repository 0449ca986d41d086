"""The fix as it was documented: look whether the session exists, insert it if not.

Right for one caller at a time. Two who look before either inserts both insert, and the second gets 23505.
"""

import sys
import uuid
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # backend_common lies beside this directory

from backend_common.client import supabase_client
from backend_common.database import InteractionTable
from backend_common.rows import session_row


class DatabaseService(InteractionTable):
    """Stores sessions and interactions."""

    def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        """Store the session unless it is stored; return its id, made here when none is given."""
        session_id = session_id or str(uuid.uuid4())
        existing = self.client.table("ai_sessions").select("id").eq("id", session_id).execute()
        if existing.data:
            return session_id
        self.client.table("ai_sessions").insert(session_row(session_id, user_id)).execute()
        return session_id


db_service = DatabaseService(supabase_client())
