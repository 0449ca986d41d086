"""Hold one container as long as this process lives; run as ``python -m`` under a guard.

A process of its own, so that SIGKILL of the test run ends the container even where testcontainers' reaper image cannot
be pulled. Command line: image, folder, port, then the command to run in it. The container's environment comes as JSON
in ``SESSION_FIX_CONTAINER``. Once it runs, ``ready.json`` says where: the published port, and the address for other
containers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

READY_FILE = "ready.json"
ENVIRONMENT = "SESSION_FIX_CONTAINER"


def main() -> None:
    """Start the container, say where it is, and wait for SIGTERM."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  an extra, and slow to import

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    image, folder, port, *command = sys.argv[1:]
    container = DockerContainer(image).with_envs(**json.loads(os.environ.pop(ENVIRONMENT)))
    container.ports[port] = ("127.0.0.1", None)  # testcontainers alone would publish it on every address
    if command:
        container.with_command(command)
    with container as running:
        client, identity = running.get_docker_client(), running.get_wrapped_container().id
        ready = {"port": str(running.get_exposed_port(int(port))), "inside": client.bridge_ip(identity)}
        unfinished = Path(folder) / "unfinished"
        unfinished.write_text(json.dumps(ready))
        unfinished.rename(Path(folder) / READY_FILE)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
