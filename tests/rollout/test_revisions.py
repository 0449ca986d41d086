"""The revisions as SQL and as schemas: one change each, and what each leaves is what the file says."""

import re

import pytest
from alembic import command
from alembic.config import Config

from session_fix import folders
from session_fix.rollout import objects, revisions, snapshots

CHAIN = revisions.chain()
IDS = [revision.id for revision in CHAIN]


def test_the_chain_begins_with_the_baseline_and_has_no_fork():
    """A plan goes through it from one end to the other."""
    assert [revision.before for revision in CHAIN] == ["", *IDS[:-1]]


def test_what_they_leave_is_noted_in_their_order():
    """Most commands know the revisions from there, without Alembic, which takes a second to import."""
    assert list(objects.revisions()) == IDS


@pytest.mark.parametrize("revision", CHAIN, ids=IDS)
def test_a_revision_says_what_it_blocks(revision):
    """The operator reads it before the night, not in it."""
    assert re.search(r"^Blocks, up", revision.doc, re.MULTILINE), revision.doc
    assert re.search(r"\bdown\b", revision.doc, re.IGNORECASE)


@pytest.mark.parametrize("revision", CHAIN, ids=IDS)
def test_an_id_fits_into_the_version_table(revision):
    """The column holds 32 characters; 33 fail only when the revision has been applied."""
    assert len(revision.id) <= 32


@pytest.mark.parametrize("script", [script for one in CHAIN for script in (one.up, one.down)])
def test_a_concurrent_statement_is_alone(script):
    """Beside another statement, a kill between the two leaves what a rerun stumbles over."""
    assert not script.concurrently or len(script.statements) == 1


@pytest.mark.parametrize("script", [script for one in CHAIN for script in (one.up, one.down)])
def test_each_direction_notes_its_version(script):
    """What is not noted is applied twice."""
    assert script.notes


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


def test_the_file_of_schemas_is_what_the_migrations_leave(empty):
    """``verify`` and ``adopt`` go by that file. `python -m session_fix.rollout.snapshots` writes it anew."""
    taken = snapshots.taken(empty.params)
    for revision in IDS:
        found: dict[str, str | None] = {}
        for one in IDS[: IDS.index(revision) + 1]:
            found |= taken[one]
        assert objects.of_revision(revision) == {name: text for name, text in found.items() if text is not None}


def test_going_down_leaves_what_the_revision_before_left(empty, migrated_to):
    """One step at a time to the first, where a downgrade that forgets something shows."""
    migrated_to("head")
    for revision in reversed(CHAIN[1:]):
        migrated_to(revision.before, perform=command.downgrade)
        with empty.connect() as connection:
            found = objects.read(connection)
        assert objects.difference(found, objects.of_revision(revision.before), exact=False) == {}, revision.id


def test_up_and_down_ten_times_leaves_the_same(empty, migrated_to):
    """What is left behind by a rollback would be in the way of the next attempt."""
    seen = set()
    for _ in range(10):
        migrated_to("head")
        with empty.connect() as connection:
            seen.add(objects.fingerprint(objects.read(connection)))
        migrated_to("0001_baseline", perform=command.downgrade)
    assert seen == {objects.fingerprint(objects.of_revision(IDS[-1]))}


@pytest.fixture
def migrated_to(empty):
    """Return a function that takes the empty database to a revision by Alembic."""
    import sqlalchemy as sa  # noqa: PLC0415  takes its time

    def migrate(revision, *, perform=command.upgrade):
        config = Config()
        config.set_main_option("script_location", str(folders.bundled("migrations")))
        engine = sa.create_engine("postgresql+psycopg://", creator=empty.connect, poolclass=sa.NullPool)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            perform(config, revision)

    return migrate


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("column", "ALTER TABLE ai_sessions ALTER user_id TYPE text"),
        ("column", "ALTER TABLE ai_sessions ALTER created_at DROP DEFAULT"),
        ("column", "ALTER TABLE ai_interactions ALTER session_id DROP NOT NULL"),
        ("constraint", "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"),
        ("index", "CREATE INDEX another ON ai_sessions (user_id)"),
        ("trigger", "ALTER TABLE ai_sessions DISABLE TRIGGER ai_sessions_touch"),
        ("trigger", "ALTER TABLE ai_interactions DISABLE TRIGGER ALL"),
        ("policy", "CREATE POLICY anybody ON ai_sessions USING (true)"),
        ("table", "ALTER TABLE ai_sessions DISABLE ROW LEVEL SECURITY"),
        ("grant", "GRANT SELECT (prompt) ON ai_interactions TO anon"),
        ("grant", "GRANT SELECT ON ai_sessions TO PUBLIC"),
    ],
)
def test_a_change_shows(database, kind, change):
    """Each kind of object is looked at: one that is not could be changed behind our back."""
    database.rows(change)
    with database.connect() as connection:
        found = objects.read(connection)
    changed = objects.difference(found, objects.of_revision(IDS[-1]))
    assert kind in {name.split()[0] for name in changed}, changed
    assert objects.fingerprint(found) != objects.fingerprint(objects.of_revision(IDS[-1]))
