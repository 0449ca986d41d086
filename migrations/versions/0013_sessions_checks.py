"""New sessions have finite times: Python cannot read ``infinity``, and nothing sorts behind it.

Blocks, up and down: ACCESS EXCLUSIVE on ``ai_sessions`` for the moment that the catalog takes; older rows
are checked by 0015_checks_validate.
"""

from alembic import op

revision = "0013_sessions_checks"
down_revision = "0012_sessions_updated_at_index"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the check, not valid."""
    op.execute(
        "ALTER TABLE public.ai_sessions ADD CONSTRAINT ai_sessions_times_finite "
        "CHECK (isfinite(created_at) AND isfinite(updated_at)) NOT VALID"
    )


def downgrade() -> None:
    """Drop the check."""
    op.execute("ALTER TABLE public.ai_sessions DROP CONSTRAINT ai_sessions_times_finite")
