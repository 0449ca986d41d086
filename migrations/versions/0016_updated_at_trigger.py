"""``updated_at`` of ``ai_sessions`` follows every update that does not set it itself.

Who writes ``updated_at`` is believed: a repair puts old values back.
Blocks, up: SHARE ROW EXCLUSIVE on ``ai_sessions``, writers wait, for the moment that the catalog takes. Down: ACCESS
EXCLUSIVE for as long.
"""

from alembic import op

revision = "0016_updated_at_trigger"
down_revision = "0015_checks_validate"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the function and its trigger."""
    op.execute(
        "CREATE OR REPLACE FUNCTION public.ai_sessions_touch() RETURNS trigger LANGUAGE plpgsql SET search_path = '' "
        "AS 'BEGIN NEW.updated_at := pg_catalog.now(); RETURN NEW; END'"
    )
    op.execute("DROP TRIGGER IF EXISTS ai_sessions_touch ON public.ai_sessions")
    op.execute(
        "CREATE TRIGGER ai_sessions_touch BEFORE UPDATE ON public.ai_sessions FOR EACH ROW "
        "WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION public.ai_sessions_touch()"
    )


def downgrade() -> None:
    """Drop the trigger and its function."""
    op.execute("DROP TRIGGER IF EXISTS ai_sessions_touch ON public.ai_sessions")
    op.execute("DROP FUNCTION IF EXISTS public.ai_sessions_touch()")
