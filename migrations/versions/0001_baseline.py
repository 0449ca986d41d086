"""The two tables as the backend has always had them.

Blocks, up: nothing, both tables are new. Down: ACCESS EXCLUSIVE on both tables, and their rows are lost.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001_baseline"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create ``ai_sessions`` and ``ai_interactions``."""
    op.create_table(
        "ai_sessions",
        sa.Column("id", UUID(), primary_key=True),
        sa.Column("user_id", sa.String(100)),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("updated_at", sa.TIMESTAMP()),
        schema="public",
    )
    op.create_table(
        "ai_interactions",
        sa.Column("id", UUID(), primary_key=True),
        sa.Column("session_id", UUID(), sa.ForeignKey("public.ai_sessions.id"), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("model_used", sa.String(50)),
        sa.Column("tokens_used", sa.Integer()),
        sa.Column("created_at", sa.TIMESTAMP()),
        schema="public",
    )


def downgrade() -> None:
    """Drop both tables, child first."""
    op.drop_table("ai_interactions", schema="public")
    op.drop_table("ai_sessions", schema="public")
