"""Interactions whose session is not stored get it: created with the first of them, updated with the last.

Nothing is deleted. These are the statements of ``session-fix repair``, for what that left; on a large table run it
before, it goes in batches. The foreign key of 0008_foreign_key_not_valid lets no new orphan in. What is stored stands
in ``session_fix.repair_journal``.
Blocks, up: whoever creates one of these sessions at the same moment, or deletes one of these interactions, waits for
it. Down: nothing; the interactions need their sessions.
"""

from pathlib import Path

from alembic import op

revision = "0009_repair_orphans"
down_revision = "0008_foreign_key_not_valid"
branch_labels = None
depends_on = None

SQL = {file.stem: file.read_text(encoding="utf-8") for file in (Path(__file__).parents[1] / "repair").glob("*.sql")}
NEEDED = ("picked", "noted", "digest", "journal", "create")


def upgrade() -> None:
    """Pick the sessions that are missing, then store those that still are."""
    for name in NEEDED:
        op.execute(SQL[name])
    op.execute("SET LOCAL enable_nestloop TO off")  # the planner expects few rows, and there may be many
    op.execute(
        f"INSERT INTO pg_temp.session_fix_picked (session_id) SELECT DISTINCT session_id FROM ({SQL['orphans']}) o"  # noqa: S608
    )
    op.execute("SET LOCAL enable_nestloop TO DEFAULT")
    op.execute("ANALYZE pg_temp.session_fix_picked")
    op.execute(f"SELECT stored FROM pg_temp.session_fix_create('{revision}')")  # noqa: S608
    op.execute(SQL["drop"])


def downgrade() -> None:
    """Leave the sessions where they are."""
