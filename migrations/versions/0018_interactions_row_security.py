"""Row level security of ``ai_interactions``: the service key gets at every row, nobody else at any.

The grants alone keep browsers out already; this keeps them out when somebody grants too much. TRUNCATE is held back by
grants only. The owner of the table is not bound by it. Roles that do not exist are passed over.
Going down revokes what browsers were granted meanwhile: with it turned off, they would get at every row.
Blocks, up and down: ACCESS EXCLUSIVE on ``ai_interactions`` for the moment that the catalog takes.
"""

from alembic import op

revision = "0018_interactions_row_security"
down_revision = "0017_sessions_row_security"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Turn it on, with the one policy."""
    op.execute("DROP POLICY IF EXISTS ai_interactions_service_role ON public.ai_interactions")
    op.execute(
        "DO $$ BEGIN IF to_regrole('service_role') IS NOT NULL THEN "
        "CREATE POLICY ai_interactions_service_role ON public.ai_interactions "
        "TO service_role USING (true) WITH CHECK (true); "
        "END IF; END $$"
    )
    op.execute("ALTER TABLE public.ai_interactions ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Turn it off, with nothing granted to browsers, and drop the policy."""
    for role in ("anon", "authenticated"):
        op.execute(
            f"DO $$ BEGIN IF to_regrole('{role}') IS NOT NULL THEN REVOKE ALL ON public.ai_interactions FROM {role}; "
            "END IF; END $$"
        )
    op.execute("ALTER TABLE public.ai_interactions DISABLE ROW LEVEL SECURITY")
    op.execute("DROP POLICY IF EXISTS ai_interactions_service_role ON public.ai_interactions")
