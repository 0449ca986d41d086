"""The data API as Supabase runs it: the official PostgREST image, a container per database, beside docker's server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from psycopg.conninfo import make_conninfo

from session_fix import folders
from session_fix.errors import NoRestError, ProcessEndedError
from session_fix.processes import guarded
from session_fix.rest import DIRECT, Endpoint, Keys, Rest
from session_fix.rest.tokens import token
from session_fix.servers import docker_container

DEFAULT_IMAGE = "postgrest/postgrest:v16.5"  # what the Supabase CLI 3.1 runs; a fixed release, never "latest"
PORT = 3000


def new_keys() -> Keys:
    """Return keys for one run: tokens for the roles ``anon`` and ``service_role``, and the secret that signs them."""
    secret = secrets.token_urlsafe(32)
    return Keys(token(secret, role="anon"), token(secret, role="service_role"), secret)


@contextmanager
def start(params: dict[str, str], keys: Keys, *, image: str = DEFAULT_IMAGE) -> Iterator[Rest]:
    """Yield a data API in front of the server that ``params`` (libpq, without dbname) reaches from a container.

    Each database gets a container of its own at its first use. Raises ``NoRestError``.
    """
    if why := missing(image):
        raise NoRestError(f"No PostgREST container: {why}")
    containers: dict[str, tuple[ExitStack, Endpoint]] = {}

    def open_(database: str) -> Endpoint:
        if database not in containers:
            with ExitStack() as stack:
                endpoint = stack.enter_context(_container(image, params | {"dbname": database}, keys))
                containers[database] = (stack.pop_all(), endpoint)
        return containers[database][1]

    def close(database: str) -> None:
        stack, _ = containers.pop(database, (ExitStack(), None))
        stack.close()

    try:
        yield Rest("postgrest", image, open_, close)
    finally:
        for database in list(containers):
            close(database)


def missing(image: str) -> str | None:
    """Return why the image cannot be run, None when it is on this machine or can be pulled."""
    from session_fix.servers import docker as server  # noqa: PLC0415  needs testcontainers

    if why := server.missing():
        return why
    import docker  # noqa: PLC0415  comes with testcontainers
    from docker.errors import DockerException  # noqa: PLC0415

    with contextlib.closing(docker.from_env()) as client:
        try:
            client.images.get(image)
        except DockerException:
            try:
                client.images.pull(image)
            except DockerException as error:
                return f"the image {image} is not on this machine and cannot be pulled ({error})."
    return None


@contextmanager
def _container(image: str, params: dict[str, str], keys: Keys) -> Iterator[Endpoint]:
    settings = {
        "PGRST_DB_URI": make_conninfo(**params),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_JWT_SECRET": keys.jwt_secret,
        "PGRST_SERVER_PORT": str(PORT),
    }
    with (
        folders.run_folder("postgrest") as folder,
        guarded(
            [sys.executable, "-m", docker_container.__name__, image, folder.path, str(PORT)],
            name=f"the container of {image}",
            folder=folder,
            env=os.environ | {docker_container.ENVIRONMENT: json.dumps(settings)},
            grace_s=30,
        ) as process,
    ):
        note = process.folder / docker_container.READY_FILE
        try:
            found = process.wait_until(
                lambda: json.loads(note.read_text()) if note.exists() else None, timeout_s=300, doing="starting"
            )
            url = f"http://{found['host']}:{found['port']}"
            process.wait_until(lambda: _answers(url), timeout_s=60, doing="loading the schema")
        except ProcessEndedError as error:
            raise NoRestError(str(error)) from error
        yield Endpoint(url, rest_path="")


def _answers(url: str) -> bool | None:
    """Say whether PostgREST has loaded its schema: any answer but a connection error or a 503."""
    try:
        with contextlib.closing(DIRECT.open(url, timeout=5)):
            return True
    except urllib.error.HTTPError as error:
        return error.code != 503 or None  # noqa: PLR2004  service unavailable
    except OSError:
        return None
