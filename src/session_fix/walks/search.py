"""Draws walks by hypothesis from a seed, takes them, and shortens one that fails to the shortest story.

Not by hypothesis' own state machine: which rules it enables can come from the constants of whatever modules happen to
be loaded, so that a seed may give other walks when a test is run alone. No number drawn here can be such a constant:
small ones are none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis import strategies as st

from session_fix.errors import ServiceError
from session_fix.walks.known import KnownWalks
from session_fix.walks.steps import CLIENTS, FARTHEST, PROMPTS, RULES, Pick, Step, plan
from session_fix.walks.walk import Contradiction, World, take

LONGEST, MEAN = 40, 12  # steps
GO_ON = st.integers(0, MEAN).map(bool)
PICKS = st.builds(
    Pick,
    rule=st.sampled_from(RULES),
    client=st.sampled_from(CLIENTS),
    which=st.integers(0, FARTHEST),
    prompt=st.sampled_from(PROMPTS),
)
SETTINGS = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=False,
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
    report_multiple_bugs=False,
    # It times the drawing, in which hypothesis once reads the source of every loaded module for constants.
    suppress_health_check=[HealthCheck.too_slow],
    verbosity=Verbosity.quiet,  # the story is told here
)
NOT_REPEATED = "The same steps taken once more did not come to this: the service remembers something between walks."


class _CannotGoOnError(BaseException):
    """Ends a search at once: it is no ``Exception``, which would only be taken for a failure to shorten."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error)
        self.error = error


def search(world: World, *, walks: int, seed: int, again: str = "") -> KnownWalks:
    """Draw ``walks`` random walks from the seed and take those that differ; return them.

    Raises ``Contradiction`` with the shortest story found, which is the last walk taken. ``again``, a note of it, says
    how to run the same search once more. Raises ``ServiceError`` when the service hangs or dies; nothing can be
    shortened then. Hypothesis keeps and writes nothing.
    """
    __tracebackhide__ = True  # pytest shows the story instead
    known = KnownWalks(world)
    failed: list[tuple[tuple[Step, ...], Contradiction]] = []  # the last is the shortest: hypothesis ends with it

    def attempt(steps: tuple[Step, ...]) -> None:
        try:
            found = known.come_to(steps)
        except ServiceError as error:
            raise _CannotGoOnError(error) from None
        if found:
            failed.append((steps, found))
            raise Contradiction(found.steps, found.told, found.what)  # always here: it is told apart by its place

    try:
        draw_walks(attempt, walks=walks, seed=seed)
    except Contradiction:
        raise _once_more(*failed[-1], world, again) from None
    except _CannotGoOnError as ended:
        raise ended.error from None
    return known


def draw_walks(attempt: Callable[[tuple[Step, ...]], None], *, walks: int, seed: int) -> None:
    """Draw walks from the seed, and hand each over as it grows, step by step.

    What ``attempt`` raises ends a walk, which is then shortened to one that still raises it; that is raised.
    """

    @hypothesis.seed(seed)
    @hypothesis.settings(SETTINGS, max_examples=walks)
    @hypothesis.given(st.data())
    def draw(data: st.DataObject) -> None:
        picks: list[Pick] = []
        while len(picks) < LONGEST and data.draw(GO_ON):
            picks.append(data.draw(PICKS))
            attempt(plan(picks))

    with _writing_nothing():
        draw()


def _once_more(steps: tuple[Step, ...], contradiction: Contradiction, world: World, again: str) -> Contradiction:
    """Return what the steps come to when they are taken once more."""
    repeated = take(steps, world)
    shown = repeated or contradiction
    for note in ("" if repeated else NOT_REPEATED, again):
        if note:
            shown.add_note(note)
    return shown


@contextmanager
def _writing_nothing() -> Iterator[None]:
    """Keep hypothesis from its folder ``.hypothesis``: it goes without one where it cannot be made."""
    configuration.set_hypothesis_home_dir(Path(os.devnull) / "hypothesis")
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(None)
