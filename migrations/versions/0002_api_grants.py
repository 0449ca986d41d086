"""What the data API's roles may do: the service key reads and writes rows, browsers nothing.

Supabase grants nothing on new tables by itself any more, and older projects granted everything, TRUNCATE included; so
whatever was granted is revoked first, from PUBLIC as well, which every role is. Roles that do not exist (on a plain
PostgreSQL) are passed over.
Blocks, up and down: nothing that reads or writes rows; GRANT and REVOKE only update the catalog.
Going down takes service_role's rights away; it does not give back what was revoked.
"""

from alembic import op

revision = "0002_api_grants"
down_revision = "0001_baseline"
branch_labels = None
depends_on = None

TABLES = "public.ai_sessions, public.ai_interactions"


def _where_role_exists(role: str, *statements: str) -> None:
    body = " ".join(f"{statement};" for statement in statements)
    op.execute(f"DO $$ BEGIN IF to_regrole('{role}') IS NOT NULL THEN {body} END IF; END $$")


def upgrade() -> None:
    """Grant the four row operations to service_role, and nothing to anon and authenticated."""
    op.execute(f"REVOKE ALL ON {TABLES} FROM PUBLIC")
    for role in ("anon", "authenticated"):
        _where_role_exists(role, f"REVOKE ALL ON {TABLES} FROM {role}")
    _where_role_exists(
        "service_role",
        f"REVOKE ALL ON {TABLES} FROM service_role",
        "GRANT USAGE ON SCHEMA public TO service_role",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO service_role",
    )


def downgrade() -> None:
    """Revoke what was granted on the tables; USAGE on the schema may serve other tables and stays."""
    _where_role_exists("service_role", f"REVOKE ALL ON {TABLES} FROM service_role")
