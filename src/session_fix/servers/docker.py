"""PostgreSQL in a container through testcontainers, on loopback where the engine is local, with a random password."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from session_fix import folders
from session_fix.errors import NoServerError, ProcessEndedError
from session_fix.processes import GuardedProcess, guarded
from session_fix.servers import NOT_FROM_ENVIRONMENT, QUIET, UNSAFE_BUT_FAST, Server, docker_container, server_version

DEFAULT_IMAGE = "postgres:18.4"  # a fixed release of the current major, never "latest"
PORT = 5432
SETTINGS = UNSAFE_BUT_FAST | QUIET | {"max_connections": "400", "max_prepared_transactions": "10"}


def missing() -> str | None:
    """Return why no container can be started, None when nothing speaks against it."""
    if importlib.util.find_spec("testcontainers") is None:
        return "testcontainers is not installed; install 'session-fix[docker]'."
    import docker  # noqa: PLC0415  comes with testcontainers
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        _knock()
        with contextlib.closing(docker.from_env(timeout=5)) as client:
            client.ping()
    except (DockerException, OSError) as error:
        return f"no Docker engine answers ({error}); start Docker, or set DOCKER_HOST."
    return None


def _knock() -> None:
    """Connect to the engine's Unix socket: docker-py 7 leaves its own unclosed when nobody answers there."""
    from docker.constants import DEFAULT_UNIX_SOCKET  # noqa: PLC0415  comes with testcontainers
    from docker.utils import parse_host  # noqa: PLC0415

    address = str(parse_host(os.environ.get("DOCKER_HOST") or DEFAULT_UNIX_SOCKET))
    path = address.removeprefix("http+unix://")
    if path != address:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            try:
                door.connect(path)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None  # the path is what one needs to know


@contextmanager
def start(
    *, image: str = DEFAULT_IMAGE, durable: bool = False, share: Path | None = None
) -> Iterator[tuple[Server, GuardedProcess]]:
    """Yield a new server in a container of ``image``; the container is gone afterwards, however this process ends.

    A ``durable`` server loses nothing that it acknowledged, and waits for the disk.

    Raises ``NoServerError`` when testcontainers, the engine or the image is missing, or the server does not come up.
    """
    if why := missing():
        raise NoServerError(f"No PostgreSQL container: {why}")
    password = secrets.token_urlsafe(24)
    chosen = {key: value for key, value in SETTINGS.items() if not (durable and key in UNSAFE_BUT_FAST)}
    settings = [part for key, value in chosen.items() for part in ("-c", f"{key}={value}")]
    with (
        folders.run_folder("docker") as folder,
        guarded(
            [sys.executable, "-m", docker_container.__name__, image, folder.path, str(PORT), "postgres", *settings],
            name=f"the container of {image}",
            folder=folder,
            env=os.environ | {docker_container.ENVIRONMENT: json.dumps({"POSTGRES_PASSWORD": password})},
            grace_s=30,
            share=share,
        ) as process,
    ):
        yield _wait_ready(process, password), process


def _wait_ready(process: GuardedProcess, password: str) -> Server:
    note = process.folder / docker_container.READY_FILE
    try:
        found = process.wait_until(
            lambda: json.loads(note.read_text()) if note.exists() else None, timeout_s=300, doing="starting"
        )
        admin = NOT_FROM_ENVIRONMENT | {"host": found["host"], "port": found["port"], "user": "postgres"}
        admin |= {"password": password}
        version = process.wait_until(lambda: server_version(admin), timeout_s=60, doing="accepting connections")
    except ProcessEndedError as error:
        raise NoServerError(f"{error}\nPull the image first, or name another in SESSION_FIX_POSTGRES_IMAGE.") from error
    return Server("docker", version, admin, {"host": found["inside"], "port": str(PORT)})
