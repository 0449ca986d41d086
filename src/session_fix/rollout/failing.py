"""What to say of a statement that the database refused: its SQLSTATE, and what to do; never a value of a row."""

from __future__ import annotations

import psycopg

from session_fix.errors import StepFailedError
from session_fix.rollout.plan import Step

TODO = {
    "23503": "Interactions have no session: run `session-fix repair`, then the same command again.",
    "23514": "Rows break a check: `session-fix audit` counts them. Correct them, then run the same command again.",
    "23505": "Somebody else works on the same objects; look who migrates, then run the same command again.",
    "40P01": "Two sessions wait for each other, twice in a row. Run the same command again.",
    "42501": "The role lacks a right: run as the owner of the tables.",
    "42P07": "Something of that name is there already: `session-fix audit` says what differs.",
    "42710": "Something of that name is there already: `session-fix audit` says what differs.",
    "53100": "The disk is full. Make room, then run the same command again.",
    "57014": "It took longer than its statement_timeout, or somebody cancelled it. Run the same command again.",
}
# In these classes the message names objects; in others, such as 22, it may quote a value.
NAMES_OBJECTS = ("0A", "23", "25", "40", "42", "53", "54", "55", "57")


def said(error: psycopg.Error) -> str:
    """Return what failed, in words that may be written to a log."""
    state = error.sqlstate or "no SQLSTATE"
    message = error.diag.message_primary if state.startswith(NAMES_OBJECTS) else None
    return f"{state}, {message or type(error).__name__}"


def todo(error: psycopg.Error) -> str:
    """Return what to do about it."""
    return TODO.get(error.sqlstate or "", "Look into the server's log, then run the same command again.")


def failed(step: Step, error: psycopg.Error, more: str = "") -> StepFailedError:
    """Return the error to raise for a step that the database refused; ``more`` is a sentence with a space before it."""
    return StepFailedError(f"{step.id} failed: {said(error)}. Nothing of this step was done.{more} {todo(error)}")
