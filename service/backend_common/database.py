"""The part of the database service that ``before`` and ``documented`` share: storing an interaction."""

from supabase import Client

from backend_common.rows import DEFAULT_MODEL, interaction_row, touched


class InteractionTable:
    """Stores interactions, and notes in their session that something happened in it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def log_interaction(
        self,
        session_id: str,
        prompt: str,
        response: str,
        model_used: str = DEFAULT_MODEL,
        tokens_used: int | None = None,
    ) -> bool:
        """Insert the interaction, then touch its session. Raises ``APIError`` 23503 for a session that is not there."""
        row = interaction_row(session_id, prompt, response, model_used, tokens_used)
        self.client.table("ai_interactions").insert(row).execute()
        self.client.table("ai_sessions").update(touched()).eq("id", session_id).execute()
        return True
