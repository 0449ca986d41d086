"""``created_at`` and ``updated_at`` of ``ai_sessions`` become moments (``timestamptz``), what is stored being UTC.

No row is rewritten, because PostgreSQL needs no other bytes for it while the transaction's TimeZone is UTC; an index on
such a column would be built anew, so this comes before ours.
Blocks, up and down: ACCESS EXCLUSIVE on ``ai_sessions`` for the moment that the catalog takes; nothing is read.
Source: ATColumnChangeRequiresRewrite() in PostgreSQL's tablecmds.c.
"""

from alembic import op

revision = "0003_sessions_timestamptz"
down_revision = "0002_api_grants"
branch_labels = None
depends_on = None

TO_TYPE = "ALTER TABLE public.ai_sessions ALTER COLUMN created_at TYPE {0}, ALTER COLUMN updated_at TYPE {0}"


def upgrade() -> None:
    """Make them moments."""
    _convert("timestamptz")


def downgrade() -> None:
    """Make them wall-clock time again, that of UTC."""
    _convert("timestamp")


def _convert(to: str) -> None:
    op.execute("SET LOCAL TimeZone TO 'UTC'")
    op.execute(TO_TYPE.format(to))
