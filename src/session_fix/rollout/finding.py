"""What an audit says: one thing that was found, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    PROBLEM = "problem"  # the rollout or a repair has to do something about it
    WARNING = "warning"  # somebody has to look, and may find it as it should be
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``id`` says what and where, and is the same in each audit; ``count`` None where nothing is counted.

    ``evidence`` holds names and numbers, never a row's contents.
    """

    id: str
    severity: Severity
    what: str
    todo: str = ""
    count: int | None = None
    exact: bool = True
    evidence: Mapping[str, Any] = field(default_factory=dict)
