"""What the bug left behind, repaired in batches under live traffic, and undone by the journal that it writes.

``statements.py`` reads the SQL that the revisions share (``migrations/repair``), ``fitness.py`` and ``pace.py`` decide
(pure), ``engine.py`` lists and repairs, ``undoing.py`` takes it back, ``support.py`` is an index for the time being.
"""

from session_fix.rollout.repair.batches import APPLICATION
from session_fix.rollout.repair.engine import look, repair
from session_fix.rollout.repair.outcome import Found, Refused, Repaired, Undone
from session_fix.rollout.repair.statements import ORPHANS, PHANTOMS, RUN
from session_fix.rollout.repair.undoing import script, undo

__all__ = [
    "APPLICATION",
    "ORPHANS",
    "PHANTOMS",
    "RUN",
    "Found",
    "Refused",
    "Repaired",
    "Undone",
    "look",
    "repair",
    "script",
    "undo",
]
