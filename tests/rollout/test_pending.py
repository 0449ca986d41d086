"""What an audit says of a database on its way through the migrations, and at their end on each version that we have."""

import pytest

from session_fix import schema, states
from session_fix.databases import KEPT_RUN, Databases
from session_fix.progress import SILENT
from session_fix.rollout import audit, facts, objects
from session_fix.servers import embedded, warm

REVISIONS = objects.revisions()
LEFT_BEHIND = {"rows/phantoms", "rows/several-for-one-session"}


def judged(database):
    """Return the audit of a database."""
    return audit.judge(facts.read(database.params), REVISIONS)


def told(database):
    """Return the findings by their ids, those of INFO left out."""
    return {one.id: one for one in judged(database).findings if one.severity != "info"}


def test_at_each_revision_what_is_pending_is_the_one_finding(session_fix_stack):
    """Whoever is half-way has no drift: one alarm, and in it what each revision would still change."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    for number, revision in enumerate(REVISIONS):
        schema.migrate(database.params, to=revision)
        found = told(database)
        behind = REVISIONS[number + 1 :]
        assert set(found) == ({"version/behind"} if behind else set()), revision
        if behind:
            evidence = found["version/behind"].evidence
            changed = {
                one: objects.difference(*map(objects.of_revision, (one, before))) for before, one in pairs(number)
            }
            assert {one: set(names) for one, names in evidence.items()} == {one: set(it) for one, it in changed.items()}
    databases.drop(database)


def pairs(number):
    """Return each revision after that of a number, the one before it first."""
    return list(zip(REVISIONS[number:], REVISIONS[number + 1 :], strict=False))


@pytest.mark.state("production_after_the_bug", size=20)
def test_before_the_rollout_the_bugs_leftovers_are_found_beside_what_is_pending(database):
    """It is the database that a rollout begins with."""
    assert set(told(database)) == LEFT_BEHIND | {"version/behind"}


@pytest.mark.state("orphans", size=20)
def test_before_the_rollout_a_missing_foreign_key_is_found_beside_what_is_pending(database):
    """Somebody dropped it, and the revision that brings it back has no object to itself."""
    expected = LEFT_BEHIND | {"version/behind", "rows/orphans", "schema/foreign-key-missing"}
    assert set(told(database)) == expected


@pytest.mark.state("production_after_the_bug", size=20)
def test_after_the_rollout_only_phantoms_that_are_not_certain_are_left(database):
    """The migrations merge those of which it is certain; the others take somebody who decides."""
    schema.migrate(database.params)
    found = told(database)
    assert set(found) <= LEFT_BEHIND
    assert found["rows/phantoms"].evidence["certain"] == 0


@pytest.mark.parametrize("version", sorted(embedded.INSTALLS))
def test_a_healthy_database_at_the_end_passes_on_each_version(version):
    """What PostgreSQL writes of a definition must not differ between versions, or every audit would raise an alarm."""
    large = states.state("large", size=300)
    with (
        warm.start(version=version, progress=SILENT) as (server, _),
        Databases(server, run=KEPT_RUN, migrate=schema.migrate) as databases,
    ):
        found = judged(databases.clone(databases.template(large)))
    assert found.verdict == "pass"
    assert {one.id for one in found.findings if one.severity != "info"} == set()
    assert found.facts.unseen == ()
    assert found.facts.objects == objects.of_revision(REVISIONS[-1])
