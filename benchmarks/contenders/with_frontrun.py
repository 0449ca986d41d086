"""Two threads create one session under frontrun, which is asked for through ``BENCHMARK``; run by its command."""

import json
import os
import time
import uuid
from pathlib import Path

import frontrun
from database_service import db_service
from postgrest.exceptions import APIError

ASKED = json.loads(os.environ["BENCHMARK"])
KEY_TAKEN = "23505"  # Source: PostgreSQL manual, appendix "Error Codes"
TIMEOUT_S = 60.0
MOST = {"dpor": "max_executions", "random": "max_attempts"}


class Attempt:
    """One execution: the session to create, and the errors its clients were told of."""

    def __init__(self) -> None:
        self.session_id = str(uuid.uuid4())
        self.refused = False

    def create(self) -> None:
        """Create the session, as one of its clients."""
        try:
            db_service.create_session(self.session_id)
        except APIError as error:
            if error.code != KEY_TAKEN:
                raise
            self.refused = True


def explore(**limits: float) -> dict[str, float | bool | None]:
    """Let it look for an execution where a client is refused; return what it took and whether there is one."""
    refused = []

    def holds(attempt: Attempt) -> bool:
        refused.append(attempt.refused)
        return not attempt.refused

    began = time.perf_counter()
    found = frontrun.explore(
        setup=Attempt,
        workers=Attempt.create,
        count=2,
        invariant=holds,
        strategy=ASKED["strategy"],
        reproduce_on_failure=0,
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
