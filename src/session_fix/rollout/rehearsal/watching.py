"""Looks at who waits for which lock, every few milliseconds, on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg.conninfo import make_conninfo

from session_fix import connecting
from session_fix.rollout.measure import spelled
from session_fix.rollout.rehearsal.record import Wait

EVERY_S = 0.01
# ``waitstart`` is there from version 14 on, and for a moment after the wait began it is not.
WAITING = """
SELECT l.pid, coalesce(c.relname, l.locktype), l.mode, a.application_name,
    coalesce(extract(epoch FROM clock_timestamp() - l.waitstart) * 1000, 0)::float8
FROM pg_locks l JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_class c ON c.oid = l.relation
WHERE NOT l.granted AND a.datname = current_database()
"""


@contextmanager
def watched(params: Mapping[str, str]) -> Iterator[list[Wait]]:
    """Yield a list that holds, after the block, each wait that was seen; those of the same kind count as one."""
    ended, seen = threading.Event(), dict[tuple[str, str, str], float]()
    found: list[Wait] = []
    with connecting.connect(make_conninfo(**params), autocommit=True) as connection:

        def look() -> None:
            while not ended.wait(EVERY_S):
                for _, relation, mode, application, waited_ms in connection.execute(WAITING):
                    key = (relation, spelled(mode), application)
                    seen[key] = max(seen.get(key, 0.0), waited_ms)

        watcher = threading.Thread(target=look, name="session-fix watcher")
        watcher.start()
        try:
            yield found
        finally:
            ended.set()
            watcher.join()
    found += [Wait(*key, longest_ms) for key, longest_ms in sorted(seen.items(), key=lambda item: -item[1])]
