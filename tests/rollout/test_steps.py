"""The steps between two revisions: their order, their timeouts, what is repaired before, what is refused."""

import pytest

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.rollout import drift, objects, steps, versions
from session_fix.rollout.plan import Binding, Kind
from session_fix.rollout.standing import Standing

IDS = objects.revisions()
ROLES = frozenset(objects.ROLES)


def standing(version="0001_baseline", *, noted=None, found=None, **more):
    """Return a database that is what its version promises, or not."""
    noted = (version,) if noted is None else noted
    found = dict(versions.promised(version, ROLES)) if found is None else found
    binding = Binding(
        system_identifier="7", database="app", server_version=180004, fingerprint="0123456789abcdef", versions=noted
    )
    return Standing(binding=binding, objects=found, roles=ROLES, **more)


def test_every_revision_is_a_step_with_two_repairs_between():
    """A repair in batches comes before the revision that would do it in one go."""
    found = [step.id for step in steps.up(standing())]
    assert [one for one in found if not one.startswith("repair-")] == [*IDS[1:]]
    assert found[found.index("0007_merge_phantom_sessions") - 1] == steps.REPAIR_PHANTOMS
    assert found[found.index("0009_repair_orphans") - 1] == steps.REPAIR_ORPHANS


def test_versions_follow_one_another():
    """Each step notes where the next one begins."""
    for found in (steps.up(standing()), steps.down(standing(IDS[-1]), "base")):
        assert [step.before for step in found[1:]] == [step.after for step in found[:-1]]


def test_an_empty_database_begins_with_the_tables_and_repairs_nothing():
    """There are no rows in tables that are new."""
    found = steps.up(standing("", noted=(), found={}, has_versions=False))
    assert [step.id for step in found] == [*IDS]
    assert found[0].notes[0].startswith("CREATE TABLE alembic_version")
    assert not any(step.hazards for step in found)


def test_a_version_table_without_a_row_is_not_made_again():
    """So a downgrade to base leaves it."""
    found = steps.up(standing("", noted=(), found={}))
    assert [note.split()[0] for note in found[0].notes] == ["INSERT"]


def test_what_stops_writers_waits_briefly_and_what_stops_nobody_longer():
    """All writers stand behind whoever waits for a lock; a build CONCURRENTLY that gives up leaves half an index."""
    found = {step.id: step for step in steps.up(standing())}
    assert found["0003_sessions_timestamptz"].lock_timeout_ms == 10
    assert found["0016_updated_at_trigger"].lock_timeout_ms == 10
    assert found["0010_foreign_key_validate"].lock_timeout_ms == 5_000
    assert found["0011_interactions_session_index"].lock_timeout_ms == 0
    assert found["0011_interactions_session_index"].kind is Kind.CONCURRENTLY
    assert all(step.statement_timeout_ms for step in found.values())


def test_what_undoes_a_step_is_its_other_direction():
    """Somebody may have to do it by hand at night."""
    (up,) = steps.up(standing("0004_interactions_timestamptz"), "0005")
    (down,) = steps.down(standing("0005_sessions_defaults"), "0004")
    assert (up.statements, up.down) == (down.down, down.statements)


@pytest.mark.parametrize(
    ("direction", "to", "says"),
    [
        (steps.up, "0001", "rollback"),
        (steps.down, "head", "migrate plan"),
        (steps.up, "nowhere", "There is no revision nowhere"),
        (steps.up, "00", "several"),
    ],
)
def test_the_other_direction_and_no_revision_are_refused(direction, to, says):
    """A plan backwards would drop what somebody believed to be adding."""
    with pytest.raises(UsageError, match=says):
        direction(standing("0005_sessions_defaults"), to)


HEAD = versions.promised(IDS[-1], ROLES)


@pytest.mark.parametrize(
    ("noted", "has_versions", "says"),
    [
        (("zzz",), True, "can't locate"),
        (("0001_baseline", "zzz"), True, "2 rows: 0001_baseline, zzz. Not of these migrations: zzz"),
        (("0001_baseline", "0002_api_grants"), True, "2 rows"),
        ((), True, "no row"),
        ((), False, "migrate adopt"),
    ],
)
def test_a_version_that_cannot_be_told_is_refused_with_what_the_schema_looks_like(noted, has_versions, says):
    """Whoever has to settle it needs the one fact that is certain: what is there."""
    with pytest.raises(RolloutRefusedError, match=says) as refused:
        steps.up(standing(noted=noted, found=HEAD, has_versions=has_versions))
    assert f"(fingerprint 0123456789abcdef) equals {IDS[-1]}" in str(refused.value)


def test_a_schema_that_equals_none_is_said_to_be_near_one():
    """One column by hand must not make it look like nothing we know."""
    like = versions.likeness(HEAD | {"column ai_sessions.user_id": "character varying(50)"}, ROLES)
    assert like.revisions == (IDS[-1],)
    assert list(like.differences) == ["column ai_sessions.user_id"]


def test_revisions_that_leave_the_same_are_named_together():
    """Repairs change rows; no schema can tell whether they were done."""
    like = versions.likeness(versions.promised("0008_foreign_key_not_valid", ROLES), ROLES)
    assert like.revisions[0] == "0006_interactions_defaults"
    assert like.revisions[-1] == "0010_foreign_key_validate"


KEY = "constraint ai_interactions.ai_interactions_session_id_fkey"
INDEX = "index ai_sessions.ai_sessions_updated_at_idx"


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("0001_baseline", {"index ai_sessions.own": "CREATE INDEX own ON public.ai_sessions USING btree (user_id)"}),
        ("0001_baseline", {"grant ai_sessions to anon": "SELECT"}),
        ("0001_baseline", {KEY: None}),
        ("0009_repair_orphans", {KEY: "FOREIGN KEY (session_id) REFERENCES public.ai_sessions(id) NOT VALID"}),
        ("0011_interactions_session_index", {INDEX: HEAD[INDEX]}),
        ("0011_interactions_session_index", {INDEX: f"{HEAD[INDEX]} INVALID"}),
        ("0016_updated_at_trigger", {"table ai_sessions": "table, row security"}),
    ],
)
def test_what_is_in_no_steps_way_is_passed_by_and_named(version, changes):
    """A rollout goes on over an operator's own index, and over what it has to repair."""
    assert set(drift.checked(_changed(version, changes), version, IDS[-1])) == set(changes)


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("0001_baseline", {"column ai_sessions.user_id": "character varying(50)"}),
        ("0001_baseline", {"column ai_interactions.prompt": None}),
        ("0010_foreign_key_validate", {KEY: None}),
        ("0010_foreign_key_validate", {KEY: "FOREIGN KEY (session_id) REFERENCES public.ai_sessions(id) NOT VALID"}),
        ("0011_interactions_session_index", {INDEX: HEAD[INDEX].replace("updated_at)", "created_at)")}),
        ("0012_sessions_updated_at_index", {INDEX: None}),
        ("0012_sessions_updated_at_index", {"constraint ai_sessions.ai_sessions_times_finite": "CHECK (true)"}),
    ],
)
def test_what_is_in_a_steps_way_is_refused_object_by_object(version, changes):
    """A rollout over it would end with a version that promises what is not there."""
    with pytest.raises(RolloutRefusedError, match="not what it promises") as refused:
        drift.checked(_changed(version, changes), version, IDS[-1])
    assert all(name in str(refused.value) for name in changes)


def _changed(version, changes):
    found = dict(versions.promised(version, ROLES)) | changes
    return standing(version, found={name: text for name, text in found.items() if text is not None})
