"""PostgreSQL's own ``isolationtester``: one spec performed on a database, in each of its orders.

A spec says what several database sessions do, step by step, and in which orders. A step that has to wait for another
session's lock is reported as waiting, and the next one begins: that is what transactions that stay open need, and what
no client of the data API can do.

Source: src/test/isolation/README of PostgreSQL's source code.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from session_fix import libpq
from session_fix.errors import EnvironmentUnavailableError, NoServerError, ProcessEndedError
from session_fix.servers import embedded

PROGRAM = Path("lib/postgresql/pgxs/src/test/isolation/isolationtester")
LEVELS = ("read committed", "repeatable read", "serializable")
STEP_TIMEOUT_S = 10
TIMEOUT_S = 60.0
LAST_LINES = 10


def find() -> Path:
    """Return the newest program that came with the embedded servers; it speaks with older and newer servers, too.

    Raises ``EnvironmentUnavailableError`` with every place looked at.
    """
    tried = {}
    for version in sorted(embedded.INSTALLS, key=int, reverse=True):
        try:
            program = embedded.binaries(version).parent / PROGRAM
        except NoServerError as error:
            tried[version] = str(error)
            continue
        if program.is_file():
            return program
        tried[version] = f"{program} is not there."
    places = "\n".join(f"  PostgreSQL {version}: {why}" for version, why in tried.items())
    raise EnvironmentUnavailableError(
        f"No isolationtester. Tried:\n{places}\n"
        f"It comes with {embedded.DISTRIBUTION}, on the platforms for which that was built with it."
    )


def run(
    spec: str,
    params: Mapping[str, str],
    *,
    level: str = LEVELS[0],
    step_timeout_s: int = STEP_TIMEOUT_S,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Perform a spec on a database, given by libpq parameters, and return what the program printed.

    ``level`` is what a transaction of the spec gets that names no isolation level of its own. A step that is kept
    waiting by its own order, which therefore cannot happen, is canceled after ``step_timeout_s``, an even number.
    Raises ``EnvironmentUnavailableError`` without the program, ``ProcessEndedError`` with its last lines when it fails,
    complains, or has not finished after ``timeout_s``.
    """
    default = f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"  # a space ends an option
    env = libpq.environment({**params, "options": f"{params.get('options', '')} {default}".strip()})
    env["PG_TEST_TIMEOUT_DEFAULT"] = str(max(1, step_timeout_s // 2))  # it cancels a step after twice that
    try:
        done = subprocess.run(
            [find(), ""],  # without an argument it would connect to the database "postgres"
            input=spec.encode(),
            env=env,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _ended(f"had not finished after {timeout_s:g} s and was ended", error.stdout or b"", params) from None
    if done.returncode or done.stderr:  # it only complains where setting up or tearing down fails
        raise _ended(f"ended with exit code {done.returncode}", done.stdout + done.stderr, params)
    return done.stdout.decode()


def difference(printed: str, expected: Mapping[str, str]) -> str:
    """Return how an output differs from the nearest of those expected, given by name; "" when it is one of them.

    White space at the end of a line counts for nothing: it pads columns, and editors remove it.
    """
    if not expected:
        raise ValueError("There is nothing to compare with.")
    return min((_diff(name, text, printed) for name, text in expected.items()), key=len)


def _diff(name: str, expected: str, printed: str) -> str:
    before, after = ([line.rstrip() for line in text.splitlines()] for text in (expected, printed))
    return "\n".join(difflib.unified_diff(before, after, f"expected: {name}", "printed", lineterm=""))


def _ended(what: str, printed: bytes, params: Mapping[str, str]) -> ProcessEndedError:
    said = libpq.without_secrets(printed.decode(errors="replace"), params)
    lines = "\n".join(f"  | {line}" for line in said.splitlines()[-LAST_LINES:]) or "  | (it wrote nothing)"
    return ProcessEndedError(f"isolationtester {what}. Its last lines:\n{lines}")
