"""A row of ``ai_sessions`` that names neither id nor time gets both from the server.

Blocks, up and down: ACCESS EXCLUSIVE on ``ai_sessions`` for the moment that the catalog takes; no row is touched.
"""

from alembic import op

revision = "0005_sessions_defaults"
down_revision = "0004_interactions_timestamptz"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Set the defaults."""
    op.execute(
        "ALTER TABLE public.ai_sessions "
        "ALTER COLUMN id SET DEFAULT gen_random_uuid(), "
        "ALTER COLUMN created_at SET DEFAULT now(), ALTER COLUMN updated_at SET DEFAULT now()"
    )


def downgrade() -> None:
    """Drop the defaults."""
    op.execute(
        "ALTER TABLE public.ai_sessions "
        "ALTER COLUMN id DROP DEFAULT, ALTER COLUMN created_at DROP DEFAULT, ALTER COLUMN updated_at DROP DEFAULT"
    )
