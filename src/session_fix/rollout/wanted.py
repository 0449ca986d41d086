"""What the migrations leave, as values to hold against what is found; a test reads them back from a database."""

from __future__ import annotations

from collections.abc import Mapping

from session_fix.rollout.found import Column, Constraint

SESSIONS, INTERACTIONS = "ai_sessions", "ai_interactions"
TABLES = (SESSIONS, INTERACTIONS)
VERSION_TABLE = "alembic_version"
MOMENT = "timestamp with time zone"


def _named(*columns: Column) -> Mapping[str, Column]:
    return {column.name: column for column in columns}


COLUMNS: Mapping[str, Mapping[str, Column]] = {
    SESSIONS: _named(
        Column("id", "uuid", not_null=True, default="gen_random_uuid()"),
        Column("user_id", "character varying(100)"),
        Column("created_at", MOMENT, default="now()"),
        Column("updated_at", MOMENT, default="now()"),
    ),
    INTERACTIONS: _named(
        Column("id", "uuid", not_null=True, default="gen_random_uuid()"),
        Column("session_id", "uuid", not_null=True),
        Column("prompt", "text", not_null=True),
        Column("response", "text", not_null=True),
        Column("model_used", "character varying(50)"),
        Column("tokens_used", "integer"),
        Column("created_at", MOMENT, default="now()"),
    ),
}
FOREIGN_KEY = Constraint(
    "ai_interactions_session_id_fkey", "f", ("session_id",), f"public.{SESSIONS}", ("id",), on_delete="a", on_update="a"
)
# What each of the data API's roles may do with both tables.
RIGHTS: Mapping[str, frozenset[str]] = {
    "anon": frozenset(),
    "authenticated": frozenset(),
    "service_role": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
}
