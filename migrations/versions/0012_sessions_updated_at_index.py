"""Sessions that nobody has touched for long are found without reading all.

Built CONCURRENTLY, which cannot share a transaction: the statement is alone in its revision, and what a build that was
cut short left behind is dropped first. Down: dropped CONCURRENTLY.
Blocks, up and down: SHARE UPDATE EXCLUSIVE on ``ai_sessions``; reads and writes go on. It waits for
every transaction that is older than itself.
"""

from alembic import context, op

revision = "0012_sessions_updated_at_index"
down_revision = "0011_interactions_session_index"
branch_labels = None
depends_on = None

INDEX = "ai_sessions_updated_at_idx"
INVALID = f"SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('public.{INDEX}')"


def upgrade() -> None:
    """Build the index."""
    with op.get_context().autocommit_block():
        if not context.is_offline_mode() and op.get_bind().exec_driver_sql(INVALID).first() is not None:
            op.execute(f"DROP INDEX CONCURRENTLY public.{INDEX}")
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON public.ai_sessions (updated_at)")


def downgrade() -> None:
    """Drop the index."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.{INDEX}")
