"""${message}.

Blocks going up: say what; going down: say what.
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what it does."""


def downgrade() -> None:
    """Undo it."""
