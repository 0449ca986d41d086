"""New interactions have a finite time and use no negative number of tokens.

Blocks, up and down: ACCESS EXCLUSIVE on ``ai_interactions`` for the moment that the catalog takes; older rows
are checked by 0015_checks_validate.
"""

from alembic import op

revision = "0014_interactions_checks"
down_revision = "0013_sessions_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the checks, not valid."""
    op.execute(
        "ALTER TABLE public.ai_interactions "
        "ADD CONSTRAINT ai_interactions_time_finite CHECK (isfinite(created_at)) NOT VALID, "
        "ADD CONSTRAINT ai_interactions_tokens_not_negative CHECK (tokens_used >= 0) NOT VALID"
    )


def downgrade() -> None:
    """Drop the checks."""
    op.execute(
        "ALTER TABLE public.ai_interactions "
        "DROP CONSTRAINT ai_interactions_time_finite, DROP CONSTRAINT ai_interactions_tokens_not_negative"
    )
