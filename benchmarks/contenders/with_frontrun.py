"""Two clients of one session are threads under frontrun; ``BENCHMARK`` says what is asked. Run by its command."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import frontrun
from database_service import db_service
from postgrest.exceptions import APIError

ASKED = json.loads(os.environ["BENCHMARK"])
LONG_AGO, CUTOFF = "2001-01-01", "2020-01-01"
REFUSED = {"23503", "23505"}  # Source: PostgreSQL manual, appendix "Error Codes"
TIMEOUT_S = 60.0
MOST = {"dpor": "max_executions", "random": "max_attempts"}


class Attempt:
    """One execution: the session that its clients have in common, and whether one of them was refused."""

    def __init__(self) -> None:
        self.session_id = str(uuid.uuid4())
        self.refused = False
        if ASKED["workload"] == "query-cleanup":
            row = {"id": self.session_id, "created_at": LONG_AGO, "updated_at": LONG_AGO}
            db_service.client.table("ai_sessions").insert(row).execute()

    def create(self) -> None:
        """Create the session."""
        with self._told():
            db_service.create_session(self.session_id)

    def query(self) -> None:
        """Store an interaction in the session."""
        with self._told():
            db_service.create_session(self.session_id)
            db_service.log_interaction(self.session_id, "a prompt", "a response")

    def cleanup(self) -> None:
        """Delete the sessions that are old and empty: look first, then delete what is still as it was seen."""
        table = db_service.client.table
        for session in table("ai_sessions").select("id").lt("updated_at", CUTOFF).execute().data:
            children = table("ai_interactions").select("id").eq("session_id", session["id"]).limit(1).execute()
            if not children.data:
                with suppress(APIError):  # 23503: it is used by now, and stays
                    table("ai_sessions").delete().eq("id", session["id"]).lt("updated_at", CUTOFF).execute()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except APIError as error:
            if error.code not in REFUSED:
                raise
            self.refused = True


WORKERS = {"create-create": [Attempt.create] * 2, "query-cleanup": [Attempt.query, Attempt.cleanup]}


def explore(**limits: float) -> dict[str, float | bool | None]:
    """Let it look for an execution where a client is refused; return what it took and whether there is one."""
    refused = []

    def holds(attempt: Attempt) -> bool:
        refused.append(attempt.refused)
        return not attempt.refused

    began = time.perf_counter()
    found = frontrun.explore(
        setup=Attempt,
        workers=WORKERS[ASKED["workload"]],
        invariant=holds,
        strategy=ASKED["strategy"],
        reproduce_on_failure=0,
        trace_packages=["session_fix.service.*"],  # installed, it would be left alone like any package
        **limits,
    )
    took_ms = (time.perf_counter() - began) * 1000
    failed = any(refused) or (False if found.property_holds else None)
    return {"took_ms": took_ms, "runs": found.num_explored, "failed": failed}


if __name__ == "__main__":
    db_service.create_session(str(uuid.uuid4()))  # connects: a pool that is first filled under it leaves it stuck
    explore(**{MOST[ASKED["strategy"]]: 1})
    hunts = [explore(total_timeout=TIMEOUT_S) for _ in range(ASKED["times"])]
    Path(ASKED["result"]).write_text(json.dumps(hunts), encoding="utf-8")
