"""A replica takes nothing, which is said before anything is tried; and its primary waits until it has each step."""

import psycopg
import pytest

from session_fix.errors import RolloutBusyError, RolloutRefusedError
from session_fix.rollout import objects, replicas
from session_fix.rollout.apply import apply
from session_fix.rollout.happening import Done, Waiting
from session_fix.rollout.retrying import Ramp

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
HEAD = objects.revisions()[-1]


@pytest.fixture
def rollout(pair, planned):
    """Return a primary before its last two revisions, the plan of these, and a replica."""
    primary, replica = pair
    return primary, planned(primary), replica


def test_a_replica_is_refused(rollout):
    """The DSN of the replica that reports are drawn from; the same system identifier, the same schema."""
    _, plan, database = rollout
    with pytest.raises(RolloutRefusedError, match="the server is a replica") as refused:
        apply(plan, database.params)
    assert "Nothing was changed" in str(refused.value)


def test_no_step_begins_before_a_replica_has_the_last_one(rollout, paused):
    """Else a long rollout would leave it hours behind, and with it whoever reads there."""
    primary, plan, replica = rollout
    seen = []

    def listen(event):
        match event:
            case Waiting():
                seen.append(str(event))
                replica.rows("SELECT pg_wal_replay_resume()")
            case Done(step=step) if step == plan.steps[0]:
                paused()

    paused()
    apply(plan, primary.params, on=listen)
    assert [text.partition(":")[0] for text in seen] == [step.id for step in plan.steps]
    assert all("reports, " in text for text in seen)


def test_a_replica_that_does_not_catch_up_ends_the_rollout_there(rollout, paused, monkeypatch):
    """The same command goes on, as ever."""
    primary, plan, replica = rollout
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    paused()
    with pytest.raises(RolloutBusyError, match=r"(?s)a replica has not caught up.*reports, .* behind.*0 of 2 steps"):
        apply(plan, primary.params, ramp=Ramp(patience_s=0))
    replica.rows("SELECT pg_wal_replay_resume()")
    assert apply(plan, primary.params).after == HEAD


def test_a_lock_that_is_lost_meanwhile_is_said(rollout, paused):
    """Somebody else may have begun."""
    primary, plan, _ = rollout

    def listen(event):
        if isinstance(event, Waiting):
            primary.rows(TERMINATE, "session-fix migrate lock")

    paused()
    with pytest.raises(RolloutBusyError, match=r"(?s)the rollout's lock is gone.*0 of 2 steps"):
        apply(plan, primary.params, on=listen)


def test_replicas_are_not_waited_for_where_that_is_said(rollout, paused, monkeypatch):
    """One that is kept an hour behind on purpose would hold up everything."""
    primary, plan, _ = rollout
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    paused()
    assert apply(plan, primary.params, ramp=Ramp(patience_s=0), ignore_replicas=True).after == HEAD


def test_a_role_that_may_not_see_them_is_told(pair, eventually):
    """PostgreSQL shows it that they are there, and no more: it would wait for none without a word."""
    primary, _ = pair
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))
    primary.rows("CREATE ROLE plain LOGIN")
    with primary.connect() as owner, psycopg.connect(**primary.params | {"user": "plain"}) as plain:
        assert (replicas.unseen(owner), replicas.unseen(plain)) == (0, 1)
    primary.rows("GRANT pg_monitor TO plain")
    with psycopg.connect(**primary.params | {"user": "plain"}) as plain:
        assert replicas.unseen(plain) == 0
