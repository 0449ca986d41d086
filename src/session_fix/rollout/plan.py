"""A plan: the steps from what a database is to what it shall be, bound to that database, and written to a file.

Frozen values, and pure functions of them. Who makes one measures its steps on a copy of the schema (``planning.py``);
who carries one out (``apply.py``) checks the binding and the hash first, and then does what stands in it, no more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from session_fix.errors import UsageError

FORMAT = 1
STAMP = "adopt-stamp"  # the step of an adoption after which Alembic knows the schema


class Kind(StrEnum):
    """How a step is carried out."""

    TRANSACTION = "transaction"  # its statements and the note of its revision, in one transaction
    CONCURRENTLY = "concurrently"  # one statement outside of any transaction; the note afterwards
    REPAIR = "repair"  # rows repaired in batches by ``repair/``; its statements are empty, it notes nothing


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a relation; ``mode`` as SQL spells it, such as ACCESS EXCLUSIVE."""

    mode: str
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. ``id`` is its revision's, or says what it does where it belongs to none.

    ``before`` and ``after`` are the Alembic versions around it, "" for none. ``notes`` are the statements that write
    ``after``. ``predicted`` and ``measured`` are the strongest lock on each table of before that it holds until its
    transaction ends. ``rewrites`` and ``scans`` name relations, as measured where that was done.
    ``lock_timeout_ms`` is 0 for a CONCURRENTLY statement,
    which one would leave half done. ``resumes`` says what a rerun does after a kill. ``down`` are the statements that
    undo it, ``hazards`` the names of what has to be allowed.
    """

    id: str
    title: str
    kind: Kind
    before: str
    after: str
    statements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    predicted: tuple[Lock, ...] = ()
    measured: tuple[Lock, ...] = ()
    rewrites: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()
    estimate_s: float = 0.0
    lock_timeout_ms: int = 0
    statement_timeout_ms: int = 0
    resumes: str = ""
    down: tuple[str, ...] = ()
    hazards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The database that a plan is for, and as what it was seen: nothing of it may have changed when it is applied.

    ``fingerprint`` is that of ``objects.read()``, ``versions`` are the rows of alembic_version.
    """

    system_identifier: str
    database: str
    server_version: int
    fingerprint: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in order. ``direction`` is up or down, ``target`` the revision to reach, ``made_at`` in ISO 8601.

    ``measured_on`` is the server of the copy on which the steps were measured, "" where they were not.
    """

    direction: str
    target: str
    made_at: str
    binding: Binding
    steps: tuple[Step, ...]
    measured_on: str = ""

    @property
    def hazards(self) -> tuple[str, ...]:
        """What has to be allowed by name, each once."""
        return tuple(dict.fromkeys(hazard for step in self.steps for hazard in step.hazards))

    @property
    def adopts(self) -> str:
        """The revision that a hand-made schema is noted as on the way, "" where there is none."""
        return next((step.after for step in self.steps if step.id == STAMP), "")

    @property
    def hash(self) -> str:
        """The SHA-256 of all that stands in it, in hexadecimal."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def written(plan: Plan) -> str:
    """Return the plan as the text of its file: JSON, with its hash."""
    return json.dumps({"format": FORMAT, "hash": plan.hash, **dataclasses.asdict(plan)}, indent=1) + "\n"


def read(text: str) -> Plan:
    """Return the plan in the text of a file. Raises ``UsageError`` when it is none, or was changed by hand."""
    try:
        found = json.loads(text)
        known, said = found.pop("format"), found.pop("hash")
        if known != FORMAT:
            raise UsageError(f"The plan has format {known!r}, this session-fix writes {FORMAT}. Make it anew.")
        steps = tuple(_step(one) for one in found.pop("steps"))
        binding = found.pop("binding")
        plan = Plan(binding=Binding(**binding | {"versions": tuple(binding["versions"])}), steps=steps, **found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"The file is no plan of `session-fix migrate plan`: {type(error).__name__}.") from error
    if plan.hash != said:
        raise UsageError("The plan was changed after it was made: its hash does not fit. Make it anew.")
    return plan


def _step(found: Mapping[str, Any]) -> Step:
    values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in found.items()}
    values |= {name: tuple(Lock(**one) for one in values[name]) for name in ("predicted", "measured")}
    return Step(**values | {"kind": Kind(values["kind"])})
