"""A replica takes nothing, which is said before anything is tried; and its primary waits until it has each step."""

import io
import os
import signal
import tarfile
import tempfile
from contextlib import ExitStack

import psycopg
import pytest

from session_fix.database import Database
from session_fix.errors import RolloutBusyError, RolloutRefusedError
from session_fix.rollout import objects, replicas
from session_fix.rollout.apply import apply
from session_fix.rollout.happening import Done, Waiting
from session_fix.rollout.retrying import Ramp
from session_fix.servers import embedded

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
BEFORE, _, HEAD = objects.revisions()[-3:]


@pytest.fixture
def pair(migrated, planned):
    """Yield a primary before its last two revisions, its plan, and a replica that takes in what it is sent."""
    with ExitStack() as running:
        server, process = running.enter_context(embedded.start())
        database = migrated(Database("postgres", server.admin | {"dbname": "postgres"}), BEFORE)
        plan = planned(database)
        os.kill(process.pid, signal.SIGINT)  # all sessions end, all is written
        process.wait_until(process.exit_code, timeout_s=60, doing="stopping")

        def start(**files):
            cluster = running.enter_context(tempfile.TemporaryFile())
            pack(process.folder / embedded.DATA, cluster, files)
            cluster.seek(0)
            server, _ = running.enter_context(embedded.start(cluster=cluster, durable=True))
            return Database("postgres", server.admin | {"dbname": "postgres"})

        primary = start()
        source = f"host={primary.params['host']} port=5432 user=postgres application_name=reports"
        yield primary, plan, start(**{"standby.signal": "", "postgresql.auto.conf": f"primary_conninfo = '{source}'"})


@pytest.fixture
def paused(pair, eventually):
    """Return a function that keeps the replica from taking in more, and writes something that it will not have."""
    primary, _, replica = pair
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))

    def pause():
        replica.rows("SELECT pg_wal_replay_pause()")
        eventually(lambda: replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
        primary.rows("CREATE TABLE IF NOT EXISTS written (id int)")
        primary.rows("INSERT INTO written VALUES (1)")

    return pause


def pack(data, file, files):
    """Write a cluster, some files anew, and its databases at the end: a server is started once those are there."""

    def rank(path):
        return 0 if not path.startswith("base/") else 1 if path.startswith(f"{embedded.FIRST}/") else 2

    paths = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() or path.is_dir())
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in files.items():
            added = tarfile.TarInfo(name)
            added.size = len(text)
            tar.addfile(added, io.BytesIO(text.encode()))
        for path in sorted(set(paths) - set(files), key=lambda path: (rank(path), path)):
            tar.add(data / path, path, recursive=False)


def test_a_replica_is_refused(pair):
    """The DSN of the replica that reports are drawn from; the same system identifier, the same schema."""
    _, plan, database = pair
    with pytest.raises(RolloutRefusedError, match="the server is a replica") as refused:
        apply(plan, database.params)
    assert "Nothing was changed" in str(refused.value)


def test_no_step_begins_before_a_replica_has_the_last_one(pair, paused):
    """Else a long rollout would leave it hours behind, and with it whoever reads there."""
    primary, plan, replica = pair
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


def test_a_replica_that_does_not_catch_up_ends_the_rollout_there(pair, paused, monkeypatch):
    """The same command goes on, as ever."""
    primary, plan, replica = pair
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    paused()
    with pytest.raises(RolloutBusyError, match=r"(?s)a replica has not caught up.*reports, .* behind.*0 of 2 steps"):
        apply(plan, primary.params, ramp=Ramp(patience_s=0))
    replica.rows("SELECT pg_wal_replay_resume()")
    assert apply(plan, primary.params).after == HEAD


def test_a_lock_that_is_lost_meanwhile_is_said(pair, paused):
    """Somebody else may have begun."""
    primary, plan, _ = pair

    def listen(event):
        if isinstance(event, Waiting):
            primary.rows(TERMINATE, "session-fix migrate lock")

    paused()
    with pytest.raises(RolloutBusyError, match=r"(?s)the rollout's lock is gone.*0 of 2 steps"):
        apply(plan, primary.params, on=listen)


def test_replicas_are_not_waited_for_where_that_is_said(pair, paused, monkeypatch):
    """One that is kept an hour behind on purpose would hold up everything."""
    primary, plan, _ = pair
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    paused()
    assert apply(plan, primary.params, ramp=Ramp(patience_s=0), ignore_replicas=True).after == HEAD


def test_a_role_that_may_not_see_them_is_told(pair, eventually):
    """PostgreSQL shows it that they are there, and no more: it would wait for none without a word."""
    primary, _, _ = pair
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))
    primary.rows("CREATE ROLE plain LOGIN")
    with primary.connect() as owner, psycopg.connect(**primary.params | {"user": "plain"}) as plain:
        assert (replicas.unseen(owner), replicas.unseen(plain)) == (0, 1)
    primary.rows("GRANT pg_monitor TO plain")
    with psycopg.connect(**primary.params | {"user": "plain"}) as plain:
        assert replicas.unseen(plain) == 0
