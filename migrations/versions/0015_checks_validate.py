"""The checks hold for older rows, too.

Blocks, up: SHARE UPDATE EXCLUSIVE on one table after the other while each is read; reads and writes go on. A row that a
check refuses makes it fail with 23514, and nothing changes: ``session-fix audit`` counts such rows. Down: nothing; what
was checked stays checked.
"""

from alembic import op

revision = "0015_checks_validate"
down_revision = "0014_interactions_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Validate all three."""
    op.execute("ALTER TABLE public.ai_sessions VALIDATE CONSTRAINT ai_sessions_times_finite")
    op.execute(
        "ALTER TABLE public.ai_interactions VALIDATE CONSTRAINT ai_interactions_time_finite, "
        "VALIDATE CONSTRAINT ai_interactions_tokens_not_negative"
    )


def downgrade() -> None:
    """Leave them validated."""
