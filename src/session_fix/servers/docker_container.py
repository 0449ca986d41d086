"""Hold one container as long as this process lives; run as ``python -m`` under a guard.

A process of its own, so that SIGKILL of the test run ends the container even where testcontainers' reaper image cannot
be pulled. Command line: image, folder, port, then the command to run in it. The container's environment comes as JSON
in ``SESSION_FIX_CONTAINER``. Once it runs, ``ready.json`` says where: host and published port, and the address for
other containers. A local engine publishes on loopback only, which testcontainers alone would not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

READY_FILE = "ready.json"
ENVIRONMENT = "SESSION_FIX_CONTAINER"


LABEL, OWNER_LABEL = "session-fix.folder", "session-fix.owner"
LOOPBACK = frozenset({"localhost", "127.0.0.1"})


def main() -> None:
    """Start the container, say where it is, and wait for SIGTERM."""
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415  an extra, and slow to import
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    testcontainers_config.ryuk_disabled = True  # its image is one more to pull, and the guard does its work
    image, folder, port, *command = sys.argv[1:]
    container = DockerContainer(image).with_envs(**json.loads(os.environ.pop(ENVIRONMENT)))
    container.with_kwargs(labels={LABEL: folder, OWNER_LABEL: owner()})
    host = container.get_docker_client().host()
    if host in LOOPBACK:  # else the engine is on another machine, or its sibling in CI, and loopback would be its own
        container.ports[port] = ("127.0.0.1", None)  # type: ignore[assignment]  # docker-py takes it, see its "ports"
        host = "127.0.0.1"
    else:
        container.with_exposed_ports(int(port))
    if command:
        container.with_command(command)
    remove_orphans(container.get_docker_client().client)
    with container as running:
        inside = running.get_docker_client().bridge_ip(str(running.get_wrapped_container().id))
        ready = {"host": host, "port": str(running.get_exposed_port(int(port))), "inside": inside}
        unfinished = Path(folder) / "unfinished"
        unfinished.write_text(json.dumps(ready))
        unfinished.rename(Path(folder) / READY_FILE)
        while True:
            signal.pause()


def remove_orphans(client: Any) -> None:
    """Remove containers whose run folder is gone: those whose guard was killed together with all the rest.

    Only containers of this user on this host: an engine may be shared, and other people's folders cannot be seen.
    """
    from docker.errors import APIError  # noqa: PLC0415  comes with testcontainers

    mine = {"label": f"{OWNER_LABEL}={owner()}"}
    for orphan in client.containers.list(all=True, filters=mine, ignore_removed=True):
        if not Path(orphan.labels[LABEL]).exists():
            with suppress(APIError):  # another run of ours removes it at the same time
                orphan.remove(force=True)


def owner() -> str:
    """Return who a container of ours belongs to."""
    return f"{os.geteuid()}@{socket.gethostname()}"


if __name__ == "__main__":
    main()
