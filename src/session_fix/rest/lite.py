"""The data API without Docker: Supabase's own TypeScript implementation, in one Node.js process for many databases."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from session_fix import folders
from session_fix.errors import NoRestError, ProcessEndedError
from session_fix.processes import guarded
from session_fix.progress import Progress
from session_fix.rest import Endpoint, Keys, Rest
from session_fix.rest import node as nodejs

DATABASES = "^[a-z_][a-z0-9_]{0,62}$"
IDLE = 204
CONNECTIONS = 16  # per database: more than any scenario has clients


def new_keys() -> Keys:
    """Return keys for one run, in the form of Supabase's own, and the secret that signs its users' tokens."""
    publishable, secret = (f"sb_{kind}_{secrets.token_hex(16)}" for kind in ("publishable", "secret"))
    return Keys(publishable, secret, secrets.token_urlsafe(32))


@contextmanager
def start(params: dict[str, str], keys: Keys, *, progress: Progress) -> Iterator[Rest]:
    """Yield a data API in front of the server that ``params`` (libpq, without dbname) reaches.

    ``params`` name the login role whose rights are those of the data API's roles together. It listens on loopback, on a
    random port. Raises ``NoRestError``.
    """
    node = nodejs.find()
    script = nodejs.install(node, progress)
    control_token = secrets.token_hex(16)
    settings = {
        "postgres": {
            "host": params["host"],
            "port": int(params.get("port", "5432")),
            "user": params["user"],
            "password": params.get("password"),
        },
        "connections": CONNECTIONS,
        "databases": DATABASES,
        "publishable_key": keys.anon,
        "secret_key": keys.service_role,
        "jwt_secret": keys.jwt_secret or secrets.token_urlsafe(32),  # its own default is a published one
        "control_token": control_token,
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "NODE_", "SUPABASE_"))}
    environment |= nodejs.QUIETLY | {"SESSION_FIX_LITE": json.dumps(settings), "NODE_ENV": "production"}
    with (
        folders.run_folder("lite") as folder,
        guarded(
            [node.node, script], name="the data API", folder=folder, env=environment, stop_signal=signal.SIGKILL
        ) as process,
    ):
        ready = process.folder / "ready"
        try:
            port = process.wait_until(
                lambda: ready.read_text() if ready.exists() else None, timeout_s=60, doing="starting"
            )
        except ProcessEndedError as error:
            raise NoRestError(str(error)) from error
        base = f"http://127.0.0.1:{port}"

        def control(method: str, database: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
            with contextlib.closing(connection):
                connection.request(method, f"/{database}", headers={"x-session-fix-control": control_token})
                return connection.getresponse().status

        def close(database: str) -> None:
            with contextlib.suppress(OSError):  # a dead process holds nothing
                control("DELETE", database)

        def is_idle(database: str) -> bool:
            with contextlib.suppress(OSError):
                return control("PUT", database) == IDLE
            return False

        version = f"@supabase/lite {nodejs.lite_version()}, Node.js {node.version} from {node.origin}"
        yield Rest("lite", version, lambda name: Endpoint(f"{base}/{name}"), close, None, params["user"], is_idle)
