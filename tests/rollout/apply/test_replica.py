"""A replica reads as its primary does, and takes nothing: that is said before anything is tried."""

import io
import os
import signal
import tarfile
import tempfile

import pytest

from session_fix.database import Database
from session_fix.errors import RolloutRefusedError
from session_fix.rollout import objects
from session_fix.rollout.apply import apply
from session_fix.servers import embedded

BEFORE = objects.revisions()[-2]


@pytest.fixture
def replica(migrated, planned):
    """Yield a database on a server in recovery, and a plan that was made while it still was a primary."""
    with tempfile.TemporaryFile() as cluster:
        with embedded.start() as (server, process):
            database = migrated(Database("postgres", server.admin | {"dbname": "postgres"}), BEFORE)
            plan = planned(database)
            os.kill(process.pid, signal.SIGINT)  # all sessions end, all is written
            process.wait_until(process.exit_code, timeout_s=60, doing="stopping")
            pack(process.folder / embedded.DATA, cluster)
        cluster.seek(0)
        with embedded.start(cluster=cluster) as (server, _):
            yield Database("postgres", server.admin | {"dbname": "postgres"}), plan


def pack(data, file):
    """Write a cluster as one of a standby, with its databases at the end: a server is started once those are there."""

    def rank(path):
        return 0 if not path.startswith("base/") else 1 if path.startswith(f"{embedded.FIRST}/") else 2

    paths = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() or path.is_dir())
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("standby.signal"), io.BytesIO())
        for path in sorted(paths, key=lambda path: (rank(path), path)):
            tar.add(data / path, path, recursive=False)


def test_a_replica_is_refused(replica):
    """The DSN of the replica that reports are drawn from; the same system identifier, the same schema."""
    database, plan = replica
    with pytest.raises(RolloutRefusedError, match="the server is a replica") as refused:
        apply(plan, database.params)
    assert "Nothing was changed" in str(refused.value)
