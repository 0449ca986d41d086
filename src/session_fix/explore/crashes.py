"""One process is killed while another serves the same session: at every call, in every state of the other client. Pure.

Nothing that has to be right may live in one process only: what was being done there is gone, and the rest goes on.
"""

from __future__ import annotations

from session_fix.explore.schedules import CARRIED_OUT, DROPPED, Enabled

SURVIVOR, KILLED = 0, 1


class Crashes:
    """Every such order once: so many calls of the survivor first, so many of the other, and its next is its last.

    That call is either dropped or still carried out, with nobody left to hear the answer.
    """

    def __init__(self) -> None:
        self._survivors = self._before = 0
        self._last = DROPPED
        self._made = {SURVIVOR: 0, KILLED: 0}
        self._begun = False
        self._happened = False
        self.mark = ""

    @property
    def repeats(self) -> bool:
        """Whether one of the two had finished before it could happen, so that the run is none of these orders."""
        return not self._happened

    def begin(self) -> bool:
        """Go on to the next order; what the last one came to says whether there is another call to be killed at."""
        if not self._begun:
            self._begun = True
        elif self._happened and self._last == DROPPED:
            self._last = CARRIED_OUT
        elif self._happened:
            self._before, self._last = self._before + 1, DROPPED
        elif self._before:
            self._survivors, self._before, self._last = self._survivors + 1, 0, DROPPED
        else:
            return False
        self._made, self._happened = {SURVIVOR: 0, KILLED: 0}, False
        return True

    def choose(self, enabled: Enabled) -> int:
        """Return who goes on, and leave in ``mark`` whether that is the killed client's last call."""
        chosen = SURVIVOR
        if KILLED in enabled and (SURVIVOR not in enabled or self._made[SURVIVOR] >= self._survivors):
            chosen = KILLED
        self._made[chosen] += 1
        self.mark = self._last if chosen == KILLED and self._made[KILLED] == self._before + 1 else ""
        if self.mark:
            self._happened = self._made[SURVIVOR] >= self._survivors
        return chosen

    def check_ended(self) -> None:
        """Accept every end: how many calls there are is what is found out."""
