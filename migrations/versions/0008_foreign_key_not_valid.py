"""The foreign key from interactions to their sessions, where somebody dropped it; older rows are not checked yet.

From here on no new orphan can be stored, so that a repair of the old ones comes to an end.
Blocks, up: SHARE ROW EXCLUSIVE on both tables, writers wait, for the moment that the catalog takes; nothing where a
foreign key is there. Down: nothing; the key belongs to 0001_baseline and stays.
"""

from alembic import op

revision = "0008_foreign_key_not_valid"
down_revision = "0007_merge_phantom_sessions"
branch_labels = None
depends_on = None

# A foreign key that leads there, under whatever name.
THERE = """
    SELECT FROM pg_constraint
    WHERE contype = 'f' AND conrelid = 'public.ai_interactions'::regclass AND confrelid = 'public.ai_sessions'::regclass
        AND conkey = ARRAY[(SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = 'session_id')]
"""


def upgrade() -> None:
    """Add the key unless it is there."""
    op.execute(f"""
DO $$ BEGIN
IF NOT EXISTS ({THERE}) THEN
    ALTER TABLE public.ai_interactions ADD CONSTRAINT ai_interactions_session_id_fkey
        FOREIGN KEY (session_id) REFERENCES public.ai_sessions (id) NOT VALID;
END IF;
END $$
""")


def downgrade() -> None:
    """Leave the key where it is."""
