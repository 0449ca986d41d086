"""Hold one PostgreSQL container as long as this process lives; run as ``python -m`` under a guard.

Writes ``ready.json`` once the server answers. A process of its own, so that SIGKILL of the test run ends the container
even where testcontainers' reaper image cannot be pulled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

READY_FILE = "ready.json"
PORT = 5432
USER = "postgres"


def main() -> None:
    """Start the image named first, with the password in ``SESSION_FIX_PASSWORD``, and wait for SIGTERM."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415  an extra, and slow to import

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    image, folder = sys.argv[1], Path(sys.argv[2])
    password = os.environ["SESSION_FIX_PASSWORD"]
    container = PostgresContainer(image, username=USER, password=password, dbname="postgres", driver=None)
    container.ports[str(PORT)] = ("127.0.0.1", None)  # testcontainers alone would publish it on every address
    container.with_tmpfs_mount("/var/lib/postgresql")
    with container as running:
        port = running.get_exposed_port(PORT)
        unfinished = folder / "unfinished"
        unfinished.write_text(json.dumps({"host": "127.0.0.1", "port": str(port), "user": USER}))
        unfinished.rename(folder / READY_FILE)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
