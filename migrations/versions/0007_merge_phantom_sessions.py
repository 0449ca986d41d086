"""Sessions that the broken backend stored under another id get their own back, several for one become one.

Only those of which it is certain: their ``user_id`` is the id of a session that is stored, or that interactions name;
nobody ever used or touched them. The earliest creation is kept, and the latest use. These are the statements of
``session-fix repair``, for what that left; on a large table run it before, it goes in batches. What is changed stands
in ``session_fix.repair_journal``: ``session-fix repair --undo 0007_merge_phantom_sessions`` takes it back.
Blocks, up: the rows that it merges, until it has finished; other rows are read and written meanwhile. One that is in
use at that moment is passed over. Down: nothing is undone.
"""

from pathlib import Path

from alembic import op

revision = "0007_merge_phantom_sessions"
down_revision = "0006_interactions_defaults"
branch_labels = None
depends_on = None

SQL = {file.stem: file.read_text(encoding="utf-8") for file in (Path(__file__).parents[1] / "repair").glob("*.sql")}
NEEDED = ("picked", "noted", "wanted", "uses", "digest", "journal", "merge")


def upgrade() -> None:
    """Pick the phantoms, then lock them and merge those that still are."""
    for name in NEEDED:
        op.execute(SQL[name])
    op.execute("SET LOCAL enable_nestloop TO off")  # the planner expects few rows, and there may be many
    op.execute(f"INSERT INTO pg_temp.session_fix_picked SELECT * FROM ({SQL['phantoms']}) p WHERE certain")  # noqa: S608
    op.execute("SET LOCAL enable_nestloop TO DEFAULT")
    op.execute("ANALYZE pg_temp.session_fix_picked")
    op.execute(SQL["guard"])
    op.execute(f"SELECT merged, stored, changed FROM pg_temp.session_fix_merge('{revision}')")  # noqa: S608
    op.execute(SQL["drop"])


def downgrade() -> None:
    """Leave the sessions as they are."""
