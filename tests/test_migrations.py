"""What pytest-alembic checks of every chain of migrations; and with its runner: each revision keeps the rows there are.

Two of its tests compare models with the database, ``test_model_definitions_match_ddl`` and the experimental
``test_all_models_register_on_metadata``. The backend has no models: rows go through the data API. What the schema has
to be stands in ``migrations/schemas.json``, object by object.
"""

import shutil

import pytest
import sqlalchemy as sa

from session_fix import folders
from session_fix.rollout import objects

tests = pytest.importorskip("pytest_alembic.tests", reason="pytest-alembic is not installed")
experimental = pytest.importorskip("pytest_alembic.tests.experimental", reason="pytest-alembic is not installed")
error = pytest.importorskip("pytest_alembic.plugin.error", reason="pytest-alembic is not installed")

# SQLAlchemy 2.1 says this when it reflects a check that is NOT VALID, and reflects it all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")

test_single_head_revision = tests.test_single_head_revision
test_upgrade = tests.test_upgrade
test_up_down_consistency = tests.test_up_down_consistency


def changed(folder, changes):
    """Return a copy of the migrations in which texts are replaced, by file: what to look for, and what to put there."""
    copy = shutil.copytree(
        folders.bundled("migrations"), folder / "migrations", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, replacements in changes.items():
        text = (copy / name).read_text()
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new)
        (copy / name).write_text(text)
    return copy


# The experimental test holds one transaction open around the whole chain. Ours notes each revision in its own, takes a
# lock that outlives them, and builds indexes where there is none: so that test sees a copy that does all the rest.
ENV = """
from alembic import context

with context.config.attributes["connection"].connect() as connection:
    context.configure(connection=connection)
    context.run_migrations()
"""
PLAIN = {"with op.get_context().autocommit_block():": "if True:", "INDEX CONCURRENTLY": "INDEX"}
BUILDS = ("versions/0011_interactions_session_index.py", "versions/0012_sessions_updated_at_index.py")


class TestInOneTransaction:
    """The revisions with plain index builds, in one transaction that is never committed."""

    @pytest.fixture
    def last(self):
        """Return what to change in the last revision that builds an index, as in the others unless a test says so."""
        return PLAIN

    @pytest.fixture
    def alembic_config(self, tmp_path, last):
        """Return where the copy is."""
        copy = changed(tmp_path, {BUILDS[0]: PLAIN, BUILDS[1]: last})
        (copy / "env.py").write_text(ENV)
        return {"script_location": str(copy)}

    test_downgrade_leaves_no_trace = staticmethod(experimental.test_downgrade_leaves_no_trace)

    @pytest.mark.parametrize("last", [{'op.execute(f"DROP INDEX CONCURRENTLY IF': 'str(f"'} | PLAIN], ids=["forgetful"])
    def test_a_downgrade_that_forgets_something_is_seen(self, alembic_runner, last):  # noqa: ARG002  for the copy
        """The test before can fail: here an index is left behind."""
        with pytest.raises(error.AlembicTestFailure, match="0012_sessions_updated_at_index"):
            experimental.test_downgrade_leaves_no_trace(alembic_runner)


SESSION, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
SESSIONS = [
    {"id": SESSION, "user_id": "ülrike", "created_at": "2026-01-01 00:00", "updated_at": "2026-03-29 02:30:00.000001"},
    {"id": OTHER, "user_id": None, "created_at": None, "updated_at": None},
]
INTERACTION = {"session_id": SESSION, "prompt": "", "response": "\t\n", "created_at": "2026-10-25 02:30"}
INTERACTIONS = [
    INTERACTION | {"id": "00000000-0000-4000-8000-000000000003", "model_used": "m" * 50, "tokens_used": 2**31 - 1},
    INTERACTION | {"id": "00000000-0000-4000-8000-000000000004", "model_used": None, "tokens_used": None},
]
# As text in UTC, in which a column with a time zone and one without look alike.
ROWS = """
SELECT 's', id::text, created_at::timestamp::text, updated_at::timestamp::text, user_id, '', '', '' FROM ai_sessions
UNION ALL SELECT 'i', id::text, created_at::timestamp::text, '', session_id::text, prompt || response, model_used,
    tokens_used::text FROM ai_interactions
ORDER BY 1, 2
"""


def lossy(runner, engine, *, count=None):
    """Return of the first ``count`` revisions those that changed rows that were there, each with the way it did."""

    def rows():
        with engine.connect() as connection:
            connection.execute(sa.text("SET TimeZone TO 'UTC'"))
            return [tuple(row) for row in connection.execute(sa.text(ROWS))]

    first, *others = objects.revisions()[:count]
    runner.migrate_up_to(first)
    runner.insert_into("ai_sessions", SESSIONS)
    runner.insert_into("ai_interactions", INTERACTIONS)
    before, found = rows(), []
    assert len(before) == len(SESSIONS) + len(INTERACTIONS)
    ways = {"up": runner.migrate_up_one, "down": runner.migrate_down_one, "up again": runner.migrate_up_one}
    for revision in others:
        for way, go in ways.items():
            go()
            if rows() != before:
                found.append((revision, way))
                before = rows()
        assert runner.current == revision
    return found


def test_rows_survive_each_revision_and_its_way_back(alembic_runner, alembic_engine):
    """Whatever else it changes; only the way back of the first drops the tables, which is what it is for."""
    assert lossy(alembic_runner, alembic_engine) == []


class TestLossy:
    """Revisions that change rows."""

    @pytest.fixture
    def alembic_config(self, tmp_path):
        """Return where a copy is that takes times for those of another zone, and empties a column on its way back."""
        times = {"SET LOCAL TimeZone TO 'UTC'": "SET LOCAL TimeZone TO 'Asia/Kolkata'"}
        drop = "ALTER COLUMN created_at DROP DEFAULT"
        default = {drop: f"{drop}, ALTER COLUMN prompt TYPE text USING 'x'"}
        files = {"versions/0004_interactions_timestamptz.py": times, "versions/0006_interactions_defaults.py": default}
        return {"script_location": str(changed(tmp_path, files))}

    def test_they_are_seen(self, alembic_runner, alembic_engine):
        """The test before can fail, on either way."""
        assert lossy(alembic_runner, alembic_engine, count=6) == [
            ("0004_interactions_timestamptz", "up"),
            ("0004_interactions_timestamptz", "down"),
            ("0004_interactions_timestamptz", "up again"),
            ("0006_interactions_defaults", "down"),
        ]
