"""A replica takes nothing, which is said before anything is tried; and its primary waits until it has each step."""

import io
import os
import signal
import tarfile
import tempfile
from contextlib import ExitStack

import pytest

from session_fix.database import Database
from session_fix.errors import RolloutBusyError, RolloutRefusedError
from session_fix.rollout import objects
from session_fix.rollout.apply import apply
from session_fix.rollout.happening import Waiting
from session_fix.rollout.retrying import Ramp
from session_fix.servers import embedded

BEFORE, HEAD = objects.revisions()[-2:]


@pytest.fixture
def pair(migrated, planned):
    """Yield a primary before its last revision, its plan, and a replica that takes in what it is sent."""
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
            server, _ = running.enter_context(embedded.start(cluster=cluster))
            return Database("postgres", server.admin | {"dbname": "postgres"})

        primary = start()
        source = f"host={primary.params['host']} port=5432 user=postgres application_name=reports"
        yield primary, plan, start(**{"standby.signal": "", "postgresql.auto.conf": f"primary_conninfo = '{source}'"})


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


def test_no_step_begins_before_a_replica_has_the_last_one(pair, eventually):
    """Else a long rollout would leave it hours behind, and with it whoever reads there."""
    primary, plan, replica = pair
    seen = []

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(str(event))
            replica.rows("SELECT pg_wal_replay_resume()")

    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))
    replica.rows("SELECT pg_wal_replay_pause()")
    eventually(lambda: replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
    primary.rows("CREATE TABLE written (id int)")
    with pytest.raises(RolloutBusyError, match=r"(?s)a replica has not caught up.*reports, .* behind.*Nothing of this"):
        apply(plan, primary.params, ramp=Ramp(patience_s=0))
    apply(plan, primary.params, on=listen)
    assert "reports, " in seen[0]
    eventually(lambda: replica.rows("SELECT version_num FROM alembic_version") == [(HEAD,)])


def test_replicas_are_not_waited_for_where_that_is_said(pair, eventually):
    """One that is kept an hour behind on purpose would hold up everything."""
    primary, plan, replica = pair
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"))
    replica.rows("SELECT pg_wal_replay_pause()")
    eventually(lambda: replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
    primary.rows("CREATE TABLE written (id int)")
    assert apply(plan, primary.params, ramp=Ramp(patience_s=0), ignore_replicas=True).after == HEAD
