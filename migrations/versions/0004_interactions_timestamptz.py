"""``created_at`` of ``ai_interactions`` becomes a moment (``timestamptz``), what is stored being UTC.

No row is rewritten, because PostgreSQL needs no other bytes for it while the transaction's TimeZone is UTC; an index on
such a column would be built anew, so this comes before ours.
Blocks, up and down: ACCESS EXCLUSIVE on ``ai_interactions`` for the moment that the catalog takes; nothing is read.
Source: ATColumnChangeRequiresRewrite() in PostgreSQL's tablecmds.c.
"""

from alembic import op

revision = "0004_interactions_timestamptz"
down_revision = "0003_sessions_timestamptz"
branch_labels = None
depends_on = None

TO_TYPE = "ALTER TABLE public.ai_interactions ALTER COLUMN created_at TYPE {0}"


def upgrade() -> None:
    """Make it a moment."""
    _convert("timestamptz")


def downgrade() -> None:
    """Make it wall-clock time again, that of UTC."""
    _convert("timestamp")


def _convert(to: str) -> None:
    op.execute("SET LOCAL TimeZone TO 'UTC'")
    op.execute(TO_TYPE.format(to))
