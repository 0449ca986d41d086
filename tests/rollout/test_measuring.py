"""What is predicted of each revision is what it does, on both versions that come with session-fix."""

import pytest

from session_fix import schema
from session_fix.databases import Databases
from session_fix.errors import RolloutRefusedError
from session_fix.rollout import measure, objects, planning
from session_fix.rollout.plan import Kind, Lock
from session_fix.servers import embedded

IDS = list(objects.revisions())
KEY = "ai_interactions_session_id_fkey"
WITHOUT_KEY = f"ALTER TABLE ai_interactions DROP CONSTRAINT {KEY}"
NOT_VALID = f"{WITHOUT_KEY}, ADD CONSTRAINT {KEY} FOREIGN KEY (session_id) REFERENCES ai_sessions (id) NOT VALID"


@pytest.fixture(scope="module", params=sorted(embedded.INSTALLS))
def databases(request):
    """Yield a server of one version, with the data API's roles."""
    with (
        embedded.start(version=request.param) as (server, _),
        Databases(server, run="00000000", migrate=schema.migrate) as made,
    ):
        made.ensure_api_roles()
        yield made


@pytest.fixture
def planned(databases):
    """Return a function that plans for a database at a revision, after a change by hand."""

    def plan(at, *changes, **options):
        database = databases.empty()
        schema.migrate(database.params, to=at)
        for change in changes:
            database.rows(change)
        try:
            return planning.made(database.params, server=databases.server, **options)
        finally:
            databases.drop(database)

    return plan


def told(plan):
    """Return what is predicted and what was measured, by step."""
    predicted = {step.id: step.predicted for step in plan.steps}
    return predicted, {step.id: step.measured for step in plan.steps}


@pytest.mark.parametrize("change", ["", WITHOUT_KEY, pytest.param(NOT_VALID, marks=pytest.mark.nightly)])
def test_each_lock_upwards_is_predicted(planned, change):
    """Who reads a plan without a copy at hand reads predictions."""
    made = planned("0001_baseline", *filter(None, [change]))
    predicted, measured = told(made.plan)
    assert predicted == measured
    assert [step.after for step in made.plan.steps if step.kind is not Kind.REPAIR] == IDS[1:]
    assert any(lock.mode == "ACCESS EXCLUSIVE" for locks in measured.values() for lock in locks)
    validation = Lock("ROW SHARE", "public.ai_sessions") in measured["0010_foreign_key_validate"]
    assert validation == bool(change)
    assert not any(step.rewrites for step in made.plan.steps)


def test_each_lock_downwards_is_predicted(planned):
    """Going back is the dangerous direction."""
    made = planned("head", direction=planning.DOWN, to="base")
    predicted, measured = told(made.plan)
    assert predicted == measured
    assert [step.before for step in made.plan.steps] == IDS[::-1]
    assert set(made.plan.hazards) == {"drops-data", "revokes-backend-access"}


def test_an_index_that_is_built_anew_and_a_scan_under_it_are_hazards(planned):
    """The prediction knows of no index of somebody else's on a column that is converted: the copy does."""
    made = planned("0002_api_grants", "CREATE INDEX ours ON ai_sessions (created_at)", to="0003_sessions_timestamptz")
    (step,) = made.plan.steps
    assert step.rewrites == ("public.ours",)
    assert set(step.hazards) == {"rewrites-table", "long-lock"}


def test_what_fails_on_the_copy_is_refused(planned):
    """A view on a column that a later step converts would stop the rollout in the middle."""
    with pytest.raises(RolloutRefusedError, match=r"0004_interactions_timestamptz fails: 0A000.*view"):
        planned("0001_baseline", "CREATE VIEW public.newest AS SELECT created_at FROM ai_interactions")


def test_a_foreign_key_of_another_name_is_refused(planned):
    """The step that validates it goes by its name."""
    with pytest.raises(RolloutRefusedError, match="0010_foreign_key_validate fails: 42704"):
        planned("0001_baseline", f"ALTER TABLE ai_interactions RENAME CONSTRAINT {KEY} TO another")


def test_nothing_is_left_on_the_server(databases, planned):
    """The copy goes, whatever came of it."""
    before = databases.execute("SELECT count(*) FROM pg_database")
    planned("0016_updated_at_trigger")
    assert databases.execute("SELECT count(*) FROM pg_database") == before


@pytest.mark.parametrize(
    ("catalog", "manual"),
    [("AccessExclusiveLock", "ACCESS EXCLUSIVE"), ("ShareUpdateExclusiveLock", "SHARE UPDATE EXCLUSIVE")],
)
def test_a_mode_is_spelled_as_in_the_manual(catalog, manual):
    """Operators look it up there."""
    assert measure.spelled(catalog) == manual
