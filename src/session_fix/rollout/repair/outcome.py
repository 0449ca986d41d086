"""What there is to repair, what a repair did, and what an undo did: counts, frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """How much there is: rows, and the sessions that they stand for or name."""

    phantoms: int = 0
    certain: int = 0  # of the phantoms
    sessions: int = 0  # that phantoms stand for
    stored: int = 0  # of those sessions
    orphans: int = 0
    missing: int = 0  # sessions that orphans name
    known: int = 0  # of those, the ones that phantoms stand for
    with_phantoms: int = 0  # of the orphans, those of such a session


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a run did so far. Each number counts rows; what is ``left`` was counted at its end."""

    run: str
    merged: int = 0  # phantoms
    sessions_stored: int = 0  # in their place
    sessions_changed: int = 0  # stored before, now with the earliest creation and the latest use
    sessions_created: int = 0  # for orphans
    quarantined: int = 0  # orphans
    deleted: int = 0  # orphans
    left_phantoms: int = 0
    left_orphans: int = 0
    batches: int = 0
    longest_ms: float = 0.0  # of a batch's transaction
    retries: int = 0  # of a batch, because others held what it needs
    took_s: float = 0.0

    @property
    def changes(self) -> int:
        """How many rows were inserted, changed or deleted."""
        sessions = self.sessions_stored + self.sessions_changed + self.sessions_created
        return self.merged + sessions + self.quarantined + self.deleted

    @property
    def left(self) -> int:
        """How many rows of what was to be repaired are there still."""
        return self.left_phantoms + self.left_orphans


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that keeps a session from being put back as it was."""

    session_id: str
    table: str
    id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What an undo did: rows put back, and the sessions of which nothing was put back."""

    run: str
    restored: int = 0
    refused: tuple[Refused, ...] = ()
    batches: int = 0
    longest_ms: float = 0.0
    retries: int = 0
    took_s: float = 0.0
