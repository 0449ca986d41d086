"""Old and new code on old and new schema, and on every schema in between: what each cell comes to."""

import pytest
from alembic import command
from alembic.config import Config

from session_fix import flow, folders, schema
from session_fix.rollout import objects

OLD, NEW = "0002_api_grants", objects.revisions()[-1]
BETWEEN = objects.revisions()[1:]
EXPECTED = {"before": flow.BROKEN, "documented": flow.HEALTHY, "fixed": flow.HEALTHY}


@pytest.fixture
def schema_of(database):
    """Return a function that takes the test's database down to a revision."""
    import sqlalchemy as sa  # noqa: PLC0415  takes its time

    def migrate(revision):
        config = Config()
        config.set_main_option("script_location", str(folders.bundled("migrations")))
        engine = sa.create_engine("postgresql+psycopg://", creator=database.connect, poolclass=sa.NullPool)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, revision)

    return migrate


def observed(request, database, recorder):
    """Replay the flow, and return what it came to."""
    earlier = len(recorder.events())
    flow.perform(request.getfixturevalue("frontend"), database, recorder)
    return flow.observe(recorder.events()[earlier:])


@pytest.mark.parametrize("revision", [OLD, NEW])
@pytest.mark.parametrize("variant", EXPECTED)
def test_each_cell(request, variant, revision, schema_of, database, recorder):
    """The schema does not mend the code, and the code does not need the schema: either may be rolled out first."""
    schema_of(revision)
    assert EXPECTED[variant].mismatches(observed(request, database, recorder)) == []


@pytest.mark.parametrize("variant", EXPECTED)
def test_each_revision_on_the_way(request, variant, schema_of, database, recorder):
    """A rollout that stops in the middle leaves a schema on which old and new code do what they did."""
    schema_of(OLD)
    for revision in BETWEEN:
        schema.migrate(database.params, to=revision)
        assert EXPECTED[variant].mismatches(observed(request, database, recorder)) == [], revision
