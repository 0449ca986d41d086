"""A writer and a reader, each every few milliseconds, until standard input ends; ``BENCHMARK`` says where and when.

Run by its command, in a process of its own, so that nothing but the database makes it wait. What it writes in the end:
of each statement when it began and what it took, and of each that failed its SQLSTATE.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import psycopg

ASKED = json.loads(os.environ["BENCHMARK"])
WRITE = """
INSERT INTO public.ai_interactions (id, session_id, prompt, response, created_at)
VALUES (gen_random_uuid(), %s, 'prompt', 'response', now() AT TIME ZONE 'UTC')
"""
READ = "SELECT created_at::text, updated_at::text FROM public.ai_sessions WHERE id = %s"


def repeated(statement: str, ended: threading.Event, ready: threading.Barrier, found: dict[str, list]) -> None:
    """Execute the statement over and over, each time when it is due or, after a stall, at once."""
    with psycopg.connect(ASKED["dsn"], autocommit=True, prepare_threshold=None) as connection:
        connection.execute(statement, [ASKED["session_id"]])
        ready.wait()
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            try:
                connection.execute(statement, [ASKED["session_id"]])
            except psycopg.Error as error:
                found["failed"].append(str(error.sqlstate))
            took = time.monotonic() - began
            found["took"].append((began, took * 1000))
            due = max(due + ASKED["every_s"], began + took)


def main() -> None:
    """Start both, say so, and wait to be told to end."""
    ended, ready = threading.Event(), threading.Barrier(3)
    found = {name: {"took": [], "failed": []} for name in ("writer", "reader")}
    threads = [
        threading.Thread(target=repeated, args=(statement, ended, ready, found[name]))
        for name, statement in (("writer", WRITE), ("reader", READ))
    ]
    for thread in threads:
        thread.start()
    ready.wait(timeout=30)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    Path(ASKED["result"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
