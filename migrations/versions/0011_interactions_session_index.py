"""A session's interactions are found in their order; deleting a session need not read all interactions.

Built CONCURRENTLY, which cannot share a transaction: the statement is alone in its revision, and what a build that was
cut short left behind is dropped first. Down: dropped CONCURRENTLY.
Blocks, up and down: SHARE UPDATE EXCLUSIVE on ``ai_interactions``; reads and writes go on. It waits for
every transaction that is older than itself.
"""

from alembic import context, op

revision = "0011_interactions_session_index"
down_revision = "0010_foreign_key_validate"
branch_labels = None
depends_on = None

INDEX = "ai_interactions_session_id_created_at_idx"
INVALID = f"SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('public.{INDEX}')"


def upgrade() -> None:
    """Build the index."""
    with op.get_context().autocommit_block():
        if not context.is_offline_mode() and op.get_bind().exec_driver_sql(INVALID).first() is not None:
            op.execute(f"DROP INDEX CONCURRENTLY public.{INDEX}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON public.ai_interactions (session_id, created_at)"
        )


def downgrade() -> None:
    """Drop the index."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.{INDEX}")
