"""The foreign key is checked against the rows that were there before it.

Blocks, up: SHARE UPDATE EXCLUSIVE on ``ai_interactions`` and ROW SHARE on ``ai_sessions`` while every interaction is
looked up; reads and writes go on. An orphan makes it fail with 23503, and nothing changes. Down: nothing; what was
checked stays checked.
"""

from alembic import op

revision = "0010_foreign_key_validate"
down_revision = "0009_repair_orphans"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Validate the key."""
    op.execute("ALTER TABLE public.ai_interactions VALIDATE CONSTRAINT ai_interactions_session_id_fkey")


def downgrade() -> None:
    """Leave it validated."""
