"""Random walks: several clients use all layers in any order, and after each step the rows are looked at.

The walks are sequential. They find what depends on what happened before; races are not among that.
"""

import secrets

import pytest

from session_fix.walks.walk import Contradiction
from session_fix.walks.world import LatestWalk, ServiceWorld

WALKS, NIGHTLY_WALKS, SEED = 50, 500, 20261122
STORY = (
    "anna: POST /session/create -> 200 s1",
    "s1 is not stored",
    "a session that nobody asked for is stored, with the user s1",
)


@pytest.fixture
def recorder():
    """Return a record that holds the latest walk alone."""
    return LatestWalk()


@pytest.fixture
def walk(service, frontend, database, recorder, request):
    """Return a function that takes walks; ``--nightly`` takes more, ``--hypothesis-seed`` those of a seed."""
    pytest.importorskip("hypothesis", reason="hypothesis draws the walks: pip install 'session-fix[walks]'")
    from session_fix.walks.search import search  # noqa: PLC0415  a third of a second, also where no walk is selected

    given, nightly = (request.config.getoption(name, default=None) for name in ("hypothesis_seed", "nightly"))
    seed = int(given) if given is not None else secrets.randbits(32) if nightly else SEED
    world = ServiceWorld(service.running, frontend, database, recorder)
    again = f"With --hypothesis-seed={seed} the walks are the same again."
    return lambda: search(world, walks=NIGHTLY_WALKS if nightly else WALKS, seed=seed, again=again)


@pytest.mark.session_fix("scenario: random walks through all layers", before=STORY, otherwise=None)
def test_random_walks(walk, expected):
    """The broken service contradicts the model in its first step, for one who looks into the database."""
    if expected is None:
        assert walk().steps > WALKS
        return
    with pytest.raises(Contradiction) as found:
        walk()
    assert (*found.value.told, *found.value.what) == expected
