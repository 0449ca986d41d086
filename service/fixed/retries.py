"""Try an idempotent write again while that can help: at most three times, and not after a deadline."""

import random
import time
from collections.abc import Callable
from typing import Any

import httpx
from postgrest.exceptions import APIError

TRIES = 3
DEADLINE_S = 3.0
TIMEOUT = httpx.Timeout(1.5)
# By code, never by words: messages are translated and quote user data.
# Source of SQLSTATE classes: PostgreSQL manual, appendix "Error Codes"; of PGRST codes: PostgREST manual, "Errors".
TRANSIENT_SQLSTATE_CLASSES = frozenset({"08", "40", "53", "57", "58"})
TRANSIENT_CODES = frozenset(
    {"55P03", "PGRST000", "PGRST001", "PGRST002", "PGRST003", "429", "502", "503", "504", "520"}
)
SQLSTATE_LENGTH = 5


class NotStoredError(Exception):
    """The data API answered without an error, but not with our row: a login page with status 200, say."""


def expect_row(answer: Any, row_id: str) -> None:
    """Raise ``NotStoredError`` unless ``answer`` is a list with the row of that id."""
    if not isinstance(answer, list) or not answer or not isinstance(answer[0], dict) or answer[0].get("id") != row_id:
        raise NotStoredError("The data API did not show the row that was sent.")


def is_transient(error: Exception) -> bool:
    """Say whether the same write may succeed when sent again, or may have succeeded unseen."""
    if isinstance(error, (httpx.TransportError, NotStoredError)):
        return True
    if not isinstance(error, APIError):
        return False
    code = str(error.code)
    return code in TRANSIENT_CODES or (len(code) == SQLSTATE_LENGTH and code[:2] in TRANSIENT_SQLSTATE_CLASSES)


def with_retries(write: Callable[[], None], deadline: float | None = None) -> None:
    """Run ``write`` until it succeeds, at most three times and not again after ``deadline`` on the monotonic clock.

    Raises its last error when no try is left, or the error cannot pass. A try itself ends after 1.5 s of silence.
    """
    deadline = time.monotonic() + DEADLINE_S if deadline is None else deadline
    for tries_left in reversed(range(TRIES)):
        try:
            return write()
        except Exception as error:
            pause_s = random.uniform(0.01, 0.1)  # noqa: S311  jitter, not a secret
            if not tries_left or not is_transient(error) or time.monotonic() + pause_s >= deadline:
                raise
            time.sleep(pause_s)
    return None
