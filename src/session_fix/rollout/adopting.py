"""Reads a database for its adoption: its tables, all their objects, and rows that a change of type would refuse."""

from __future__ import annotations

from collections.abc import Mapping

from session_fix.rollout import facts, objects
from session_fix.rollout.adoption import Adoption, adoption
from session_fix.rollout.adoption_columns import to_cast
from session_fix.rollout.found import Facts
from session_fix.rollout.target import reading


def read(target: Mapping[str, str], *, timeout_s: float) -> tuple[Facts, Adoption]:
    """Return what was found in the database at these libpq parameters, and how it is adopted.

    All rows are counted, in statements of ``timeout_s`` each. Raises ``DatabaseUnreadableError``.
    """
    seen = facts.read(target, timeout_s=timeout_s, exact=True)
    with reading(target, timeout_s=timeout_s) as (connection, _):
        found = objects.read(connection)
        uncastable = {}
        for column, query in to_cast(seen.tables).items():
            for (number,) in connection.execute(query):
                uncastable[column] = number
    return seen, adoption(seen, found, uncastable)
