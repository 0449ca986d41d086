"""What may happen to a kept cluster and to whoever starts from one: damage, kills, several at once, other users."""

import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from session_fix import folders, stack
from session_fix.progress import Progress
from session_fix.servers import UNSAFE_BUT_FAST, clusters, warm
from session_fix.settings import Settings

WHOLE = "whole"
SERVER = """
import json, sys
from session_fix.progress import SILENT
from session_fix.servers import warm
with warm.start(version="18", progress=SILENT) as (server, process):
    print(json.dumps({"admin": server.admin, "folder": str(process.folder)}), flush=True)
    sys.stdin.read()
"""
FROM_STDIN = """
import pathlib, sys
from session_fix.servers import embedded
folders.SHM = pathlib.Path(sys.argv[1])
with embedded.start(cluster=sys.stdin.buffer):
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keep the clusters of this module where nobody else's are; the data API's packages stay where they are."""
    folder = tmp_path_factory.mktemp("cache")
    for packages in folders.cache().glob("lite-*"):
        (folder / packages.name).symlink_to(packages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_FIX_CACHE", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Keep clusters in a cache of this test alone; return the folder that holds them."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/clusters"


@pytest.fixture
def runs():
    """Yield a folder for the folders of a run, which no other run on this machine sweeps."""
    with folders.run_folder("kill") as folder:
        folder.path.chmod(0o711)  # root's PostgreSQL runs as somebody else
        yield folder.path


def origin(admin):
    """Return what every initdb makes anew: whoever has the same comes from the same."""
    with psycopg.connect(**admin, dbname="postgres") as connection:
        return connection.execute("SELECT system_identifier FROM pg_control_system()").fetchall()


@contextmanager
def started():
    """Yield the origin of a warm server, and whether a cluster was made for it."""
    progress = Progress(quiet=True)
    with warm.start(version="18", progress=progress) as (server, _):
        yield origin(server.admin), any("Initialising" in step for step in progress.timings)


@pytest.fixture
def kept(tmp_path):
    """Yield the file of a kept cluster that is whole; it is so again after the test."""
    with started():
        path = clusters.kept()[0]
    shutil.copyfile(path, tmp_path / WHOLE)
    yield path
    (tmp_path / WHOLE).replace(path)


def cut(path):
    """Leave the first half, as a full disk would."""
    os.truncate(path, path.stat().st_size // 2)


def cut_between_files(path):
    """Leave the first files, whole: ``tar`` finds nothing wrong with that."""
    with tarfile.open(path) as tar:
        end = tar.getmembers()[20].offset
    os.truncate(path, end)


def overwrite(path):
    """Leave something else."""
    path.write_bytes(b"garbage\n" * 10_000)


def empty(path):
    """Leave nothing in it."""
    os.truncate(path, 0)


def damage_a_file(path):
    """Damage what PostgreSQL looks at first; to ``tar``, all is well."""
    with tarfile.open(path) as tar:
        (found,) = (member for member in tar if member.name.endswith("global/pg_control"))
    with path.open("r+b") as file:
        file.seek(found.offset_data)
        file.write(b"\0" * found.size)


@pytest.mark.parametrize("damage", [cut, overwrite, empty, cut_between_files, damage_a_file])
def test_a_damaged_one_is_made_again(kept, damage):
    """Nobody knows that there is such a file, so nobody would think of removing it."""
    with started() as (whole, made):
        assert not made
    damage(kept)
    with started() as (again, made):
        assert made
        assert again != whole
    with started() as (third, made):
        assert not made
        assert third == again
    assert clusters.kept() == [kept]


def test_one_of_two_builds_after_a_third_was_killed(owner, said, eventually, empty_cache):
    """A run is killed while it initialises; the next one has two workers that start at the same time."""
    killed = owner(sys.executable, "-c", SERVER)
    eventually(lambda: list(empty_cache.glob(f"{clusters.UNFINISHED}*")), of_what="it builds", timeout_s=60)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert clusters.kept() == []
    both = [owner(sys.executable, "-c", SERVER) for _ in range(2)]
    origins = [origin(json.loads(said(process))["admin"]) for process in both]
    assert origins[0] == origins[1]
    assert len(list(empty_cache.iterdir())) == len(clusters.kept()) == 1


@pytest.mark.parametrize(("unpacked", "is_started"), [(0.02, False), (0.2, True), (1.0, True)])
def test_killed_while_it_is_unpacked_it_leaves_nothing(
    kept, tells_its_folder, said, eventually, is_running, descendants, runs, unpacked, is_started
):
    """The guard does not know yet what to start, or has started it, and somebody else still writes into its folder."""
    process = tells_its_folder(FROM_STDIN, runs)
    folder = Path(said(process))
    content = kept.read_bytes().rstrip(b"\0")  # without the end of the archive, and with the pipe open, tar waits
    process.stdin.write(content[: int(len(content) * unpacked)])
    eventually((folder / ("pid" if is_started else "data/PG_VERSION")).exists)
    running = descendants(process.pid)
    assert (len(running) > 3) is is_started, "the owner, the guard, tar, and the server if it runs"
    assert (folder / "pid").exists() is is_started
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: not folder.exists(), of_what=f"{folder} is gone")
    process.stdin.close()
    eventually(lambda: not any(map(is_running, running)), of_what=f"{running} have ended")
    assert not folder.exists()


def test_what_is_killed_there_would_have_started(kept, tells_its_folder, said, runs):
    """The test above has to stop a start that works."""
    process = tells_its_folder(FROM_STDIN, runs)
    folder = Path(said(process))
    process.stdin.write(kept.read_bytes())
    process.stdin.close()
    assert said(process) == "started"
    process.wait(60)
    assert not folder.exists()


@pytest.fixture
def reachable_migrations():
    """Yield a copy of the migrations that everybody can reach: alembic asks access(2), which knows no capability."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield shutil.copytree(folders.bundled("migrations"), Path(folder) / "migrations")


def test_an_ordinary_user_has_a_kept_cluster_too(as_nobody, said, empty_cache, eventually, reachable_migrations):
    """Root's files are unpacked by somebody else, everybody else's by themselves: two ways through the code."""
    empty_cache.parent.mkdir()
    shutil.chown(empty_cache.parent, "nobody")
    script = f"""
from session_fix import folders
folders.bundled = lambda _: Path({str(reachable_migrations)!r})
{SERVER}"""
    origins, inodes = [], []
    for _ in range(2):
        process = as_nobody(script)
        found = json.loads(said(process))
        origins.append(origin(found["admin"]))
        inodes += [path.stat().st_ino for path in empty_cache.iterdir()]
        assert Path(found["folder"]).stat().st_uid == empty_cache.stat().st_uid != 0
        process.stdin.close()
        eventually(lambda folder=Path(found["folder"]): not folder.exists())
    assert origins[0] == origins[1]
    assert len(inodes) == 2
    assert len(set(inodes)) == 1


@pytest.mark.parametrize("durable", [False, True])
def test_durability_is_as_chosen_and_reported(durable):
    """Whoever rehearses a crash has to know what the server waited for; nobody else wants to wait."""
    settings = Settings(durable=durable)
    with stack.start(settings, stack.new_keys(settings), progress=Progress(quiet=True)) as running:
        shown = {name: running.databases.execute(f"SHOW {name}")[0][0] for name in UNSAFE_BUT_FAST}
        said_of_it = running.describe()["durability"]
    assert set(shown.values()) == {"on" if durable else "off"}
    assert said_of_it == ("durable" if durable else "fsync=off, full_page_writes=off, synchronous_commit=off")
