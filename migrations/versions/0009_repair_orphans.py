"""Interactions whose session is not stored get it: created with the first of them, updated with the last.

Nothing is deleted. On a large table run ``session-fix repair`` before, which does the same in batches; then nothing is
left to do here. The foreign key of 0008_foreign_key_not_valid lets no new orphan in.
Blocks, up: whoever creates one of these sessions at the same moment waits for it. Down: nothing; the interactions need
their sessions.
"""

from alembic import op

revision = "0009_repair_orphans"
down_revision = "0008_foreign_key_not_valid"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Store the sessions that are missing."""
    op.execute("""
INSERT INTO public.ai_sessions (id, created_at, updated_at)
SELECT i.session_id, min(i.created_at), max(i.created_at) FROM public.ai_interactions i
WHERE NOT EXISTS (SELECT FROM public.ai_sessions s WHERE s.id = i.session_id)
GROUP BY i.session_id
ON CONFLICT (id) DO NOTHING
""")


def downgrade() -> None:
    """Leave the sessions where they are."""
