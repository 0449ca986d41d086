"""What the benchmarks of the explorer run on: one stack, one database, and services with their taps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from session_fix import folders, host, stack
from session_fix.events import Recorder
from session_fix.explore.runs import Rig
from session_fix.host.service import Service, environment
from session_fix.progress import SILENT
from session_fix.settings import Settings
from session_fix.subjects import variant
from session_fix.tap import Tap

FOUR_CALLS = Path(__file__).parent / "services" / "four_calls"


@contextmanager
def rigs() -> Iterator[Callable[[Path], Rig]]:
    """Yield a function that starts the service of a directory and returns what its runs are performed on."""
    settings = Settings()
    with ExitStack() as running:
        keys = stack.new_keys(settings)
        base = running.enter_context(stack.start(settings, keys, progress=SILENT))
        database = running.enter_context(base.database())
        endpoint = base.endpoint(database)

        def start(directory: Path) -> tuple[Service, Tap]:
            tap = running.enter_context(Tap())
            tap.point_at(endpoint, Recorder())
            env = environment(tap.url, keys)
            bundled = [str(variant("documented").directory), str(folders.bundled("service"))]
            env["PYTHONPATH"] = os.pathsep.join([*bundled, *filter(None, [env.get("PYTHONPATH")])])
            return running.enter_context(host.start(directory, env)), tap

        def rig(directory: Path) -> Rig:
            return Rig([start(directory)], database, endpoint, keys, lambda _: start(directory))

        yield rig
