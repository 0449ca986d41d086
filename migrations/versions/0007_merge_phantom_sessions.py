"""Sessions that the broken backend stored under another id get their own back, several for one become one.

Only those of which it is certain: their ``user_id`` is the id of a session that is stored, or that interactions name;
nobody ever used or touched them. The earliest creation is kept. On a large table run ``session-fix repair`` before,
which does the same in batches; then nothing is left to do here.
Blocks, up: the rows that it merges, until it has finished; other rows are read and written meanwhile. Down: nothing is
undone.
"""

from alembic import op

revision = "0007_merge_phantom_sessions"
down_revision = "0006_interactions_defaults"
branch_labels = None
depends_on = None

UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def upgrade() -> None:
    """Lock the phantoms, then merge those that still are."""
    op.execute(f"""
CREATE TEMPORARY TABLE phantom ON COMMIT DROP AS
SELECT s.id, lower(s.user_id)::uuid AS session_id, s.created_at
FROM public.ai_sessions s
WHERE lower(s.user_id) ~ '{UUID}' AND lower(s.user_id) <> s.id::text AND s.created_at IS NOT DISTINCT FROM s.updated_at
    AND NOT EXISTS (SELECT FROM public.ai_interactions i WHERE i.session_id = s.id)
    AND (lower(s.user_id) IN (SELECT id::text FROM public.ai_sessions)
        OR lower(s.user_id) IN (SELECT session_id::text FROM public.ai_interactions))
FOR UPDATE OF s
""")  # noqa: S608  a constant of ours
    op.execute("""
DELETE FROM pg_temp.phantom p WHERE EXISTS (SELECT FROM public.ai_interactions i WHERE i.session_id = p.id)
""")
    op.execute("DELETE FROM public.ai_sessions s USING pg_temp.phantom p WHERE s.id = p.id")
    op.execute("""
INSERT INTO public.ai_sessions AS s (id, created_at, updated_at)
SELECT session_id, min(created_at), max(created_at) FROM pg_temp.phantom GROUP BY session_id
ON CONFLICT (id) DO UPDATE SET created_at = least(s.created_at, excluded.created_at)
""")


def downgrade() -> None:
    """Leave the sessions as they are."""
