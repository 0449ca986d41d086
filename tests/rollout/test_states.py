"""What an audit says of databases whose contents are known, down to the numbers."""

import re

import pytest
from session_fix.fixtures.states import _traffic, orphans

from session_fix import states
from session_fix.rollout import facts, objects, wanted

HAND_MADE = {
    "version/none",
    "schema/type/ai_sessions.user_id",
    *(f"schema/type/ai_interactions.{name}" for name in ("model_used", "tokens_used")),
    "schema/foreign-key-action",
    "schema/foreign-key-name",
    *(
        f"access/{what}/{table}"
        for table in wanted.TABLES
        for what in (
            *(f"right-extra/{role}" for role in ("anon", "authenticated", "service_role")),
            "row-security-off",
        )
    ),
}


def expected_of(name):
    """Return what a state's generator says it wrote: phantoms, and the sessions that they stand for."""
    size = states.state(name).size
    visits = list(_traffic.visits(size, states.DEFAULT_SEED))
    if name == "orphans":
        visits = list(orphans._without_the_key_at_last(size, states.DEFAULT_SEED))  # noqa: SLF001
    phantoms = [
        (visit.id, len(visit.asked_us) + (visit.kind is _traffic.Kind.FRONTEND)) for visit in visits if not visit.erased
    ]
    phantoms = [(known, number) for known, number in phantoms if number]
    return {
        "phantoms": sum(number for _, number in phantoms),
        "sessions": len(phantoms),
        "several": sum(number > 1 for _, number in phantoms),
        "orphans": sum(
            len(visit.asked_us)
            for visit in visits
            if visit.logged and (visit.erased or visit.kind is _traffic.Kind.FRONTEND)
        ),
    }


def test_what_is_wanted_is_what_the_migrations_leave(database):
    """The audit would otherwise send people after differences that are none, or miss some."""
    read = facts.read(database.params)
    assert read.objects == objects.of_revision(objects.revisions()[-1])
    assert {name: table.columns for name, table in read.tables.items()} == wanted.COLUMNS
    keys = [key for table in read.tables.values() for key in table.constraints if key.kind == "f"]
    assert keys == [wanted.FOREIGN_KEY]
    assert all(
        table.rights.get(role, frozenset()) == has
        for table in read.tables.values()
        for role, has in wanted.RIGHTS.items()
    )
    assert read.versions == (objects.revisions()[-1],)


def test_a_migrated_database_has_nothing_to_repair(audited):
    """An alarm that is false is one that nobody reads the next time."""
    told = audited()
    assert told.verdict == "pass"
    assert {one.id for one in told.findings if one.severity != "info"} == set()
    assert told.facts.unseen == ()


@pytest.mark.state("hand_made")
def test_a_hand_made_database_differs_in_these_ways_and_in_no_other(found):
    """Whoever adopts a schema typed by hand has to know each difference, and lose no time with others."""
    assert set(found()) == HAND_MADE


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.state(name)) for name in ("production_after_the_bug", "orphans")]
)
def test_the_bugs_leftovers_are_counted_one_by_one(found, name):
    """A repair that works from wrong numbers loses sessions, or makes some up."""
    told, expected = found(), expected_of(name)
    assert told["rows/phantoms"].count == expected["phantoms"]
    assert told["rows/phantoms"].evidence["sessions"] == expected["sessions"]
    assert told["rows/several-for-one-session"].count == expected["several"]
    assert (told["rows/orphans"].count if "rows/orphans" in told else 0) == expected["orphans"]


@pytest.mark.state("orphans")
def test_a_sample_says_that_it_is_one(audited):
    """A number that was worked out must not be taken for one that was counted."""
    told = audited(exact_below_bytes=1, sample_bytes=40_000)
    orphans = next(one for one in told.findings if one.id == "rows/orphans")
    assert not orphans.exact
    assert 250 < orphans.count < 1000, "498 of them are there, and what is drawn is the same each time"
    assert any("--exact" in one.why for one in told.facts.unseen)


def test_a_sample_in_which_nothing_is_wrong_proves_nothing(audited, database):
    """What is wrong may be on the pages that were not looked at."""
    database.rows("INSERT INTO ai_sessions (id, created_at, updated_at) VALUES (gen_random_uuid(), now(), now())")
    assert audited(exact_below_bytes=1).verdict == "inconclusive"
    assert audited().verdict == "pass"


def test_a_database_of_somebody_else_has_no_table_of_ours(audited, database):
    """It is where a first rollout starts, or what a wrong DSN leads to; the audit must not stumble."""
    database.rows("DROP TABLE ai_interactions, ai_sessions, alembic_version")
    database.rows("CREATE SCHEMA other")
    database.rows("CREATE TABLE other.ai_sessions (id int)")
    told = {one.id: one for one in audited().findings if one.severity != "info"}
    assert set(told) == {"version/none", *(f"schema/table-missing/{name}" for name in wanted.TABLES)}
    assert re.search(r"other\.ai_sessions", told["schema/table-missing/ai_sessions"].todo)
