"""PostgreSQL in a container: reachable from this machine only, and gone however its run ends."""

import contextlib
import errno
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from session_fix.errors import NoServerError
from session_fix.servers import docker, docker_container

pytestmark = pytest.mark.container
IMAGE = os.environ.get("SESSION_FIX_POSTGRES_IMAGE", "")
NOWHERE = "127.0.0.1:9/no-such-image:1"  # a registry that refuses at once
OWNER = f"""
import sys
from session_fix.servers import docker
with docker.start(image={IMAGE!r}) as (server, process):
    print(process.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def containers(engine):
    """Return a function that lists the containers of a run folder, stopped ones included."""
    return lambda folder: engine.containers.list(
        all=True, filters={"label": f"{docker_container.LABEL}={folder}"}, ignore_removed=True
    )


@pytest.fixture
def sleeping(engine, image):
    """Return a function that starts a container which carries a run folder's label; it goes with the test."""
    made = []

    def start(folder, owner=docker_container.owner()):  # noqa: B008  it does not change
        labels = {docker_container.LABEL: str(folder), docker_container.OWNER_LABEL: owner}
        made.append(engine.containers.run(image, ["60"], entrypoint=["sleep"], labels=labels, detach=True))
        return made[-1]

    yield start
    for container in made:
        with contextlib.suppress(importlib.import_module("docker").errors.NotFound):
            container.remove(force=True)


def test_it_is_published_on_loopback_only_and_gone_after_the_block(image, containers):
    """A published port is open to the whole network unless said otherwise, whatever the firewall says."""
    with docker.start(image=image) as (server, process):
        (container,) = containers(process.folder)
        published = [address for ports in container.ports.values() for address in ports or []]
        assert published == [{"HostIp": "127.0.0.1", "HostPort": server.admin["port"]}]
        assert server.kind == "docker"
        folder = process.folder
    assert containers(folder) == []
    assert not folder.exists()


def test_a_wrong_password_is_refused(image):
    """Everybody on the machine can reach the port."""
    with docker.start(image=image) as (server, _):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**server.admin | {"password": "wrong"}, dbname="postgres")
        assert server.admin["password"] not in repr(server)


def test_it_is_gone_when_its_owner_is_killed(image, containers, eventually):
    """SIGKILL leaves nobody to tidy up but the guard."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        try:
            folder = Path(owner.stdout.readline().decode().strip())
            assert image
            assert len(containers(folder)) == 1
        finally:
            owner.kill()
    eventually(lambda: not containers(folder), timeout_s=30, of_what="the container is gone")
    eventually(lambda: not folder.exists(), timeout_s=30, of_what="its folder is gone")


@pytest.mark.usefixtures("engine")
def test_an_image_that_cannot_be_had_is_named():
    """The engine's own words say why, and which image it was."""
    with pytest.raises(NoServerError) as refused, docker.start(image=NOWHERE):
        pass
    assert f"the container of {NOWHERE} ended with exit code" in str(refused.value)
    assert "SESSION_FIX_POSTGRES_IMAGE" in str(refused.value)
    assert "127.0.0.1:9" in str(refused.value).splitlines()[-2], "the engine's reason is the last line quoted"


def test_what_a_dead_run_left_is_removed_and_nothing_else(engine, sleeping, containers, tmp_path):
    """When the guard is killed together with all the rest, the next run removes the container."""
    dead, alive, elsewhere = (tmp_path / name for name in ("dead", "alive", "elsewhere"))
    alive.mkdir()
    sleeping(dead)
    kept = [sleeping(alive), sleeping(elsewhere, owner="0@another-host")]
    docker_container.remove_orphans(engine)
    assert containers(dead) == []
    assert [container.id for folder in (alive, elsewhere) for container in containers(folder)] == [
        one.id for one in kept
    ]


def test_an_orphan_that_another_run_removes_first_is_no_error(engine, sleeping, tmp_path):
    """Two runs that start together find the same leftovers."""
    orphan = sleeping(tmp_path / "dead")

    class Late:
        """A client that another run overtakes between looking and removing."""

        containers = property(lambda self: self)

        def list(self, **options):
            found = engine.containers.list(**options)
            orphan.remove(force=True)
            return found

    docker_container.remove_orphans(Late())


def test_without_an_engine_the_reason_and_the_way_out_are_named(monkeypatch):
    """Docker that is not running is the usual reason."""
    pytest.importorskip("testcontainers", reason="needs 'session-fix[docker]'")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(NoServerError, match=r"no Docker engine answers.*set DOCKER_HOST"), docker.start(image=NOWHERE):
        pass


@pytest.mark.parametrize("exists", [True, False])
def test_an_engine_that_is_not_there_is_said_and_leaves_nothing_open(tmp_path, exists):
    """The socket file stays behind when an engine stops; asking must not leave a socket for somebody else to find."""
    path = tmp_path / "docker.sock"
    if exists:
        with socket.socket(socket.AF_UNIX) as stopped:
            stopped.bind(str(path))
    ask = "from session_fix.servers import docker; print(docker.missing())"
    asked = subprocess.run(
        [sys.executable, "-W", "error", "-c", ask],
        env=os.environ | {"DOCKER_HOST": f"unix://{path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"no Docker engine answers ([Errno {errno.ECONNREFUSED if exists else errno.ENOENT}]" in asked.stdout
    assert str(path) in asked.stdout
    assert asked.stderr == ""
