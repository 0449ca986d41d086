"""What a test's markers ask for: understood, or refused in words that name the marker."""

import pytest

from session_fix import states, wishes
from session_fix.errors import UsageError
from session_fix.wishes import Wish


class Item:
    """A test with markers, as far as a wish looks at it."""

    def __init__(self, **markers):
        self.markers = markers

    def get_closest_marker(self, name):
        """Return the marker of that name."""
        return self.markers[name].mark if name in self.markers else None


GRANTED = {
    "nothing": (pytest.mark.database(), Wish()),
    "clone": (pytest.mark.database(isolation="clone"), Wish(isolation="clone")),
    "recycle": (pytest.mark.database(isolation="recycle"), Wish(isolation="recycle")),
    "truncate": (pytest.mark.database(reset="truncate"), Wish(reset="truncate")),
    "class": (pytest.mark.database(scope="class"), Wish(scope="class")),
    "module and truncate": (
        pytest.mark.database(scope="module", reset="truncate"),
        Wish(scope="module", reset="truncate"),
    ),
}


@pytest.mark.parametrize(("marker", "wish"), GRANTED.values(), ids=GRANTED)
def test_a_wish_is_understood(marker, wish):
    """Each of them is written in a test of somebody's."""
    assert wishes.database(Item(database=marker)) == wish


def test_without_markers_nothing_is_asked_for():
    """Then the run's own choice holds."""
    assert wishes.database(Item()) == Wish()
    assert wishes.state(Item()) is None


REFUSED = {
    "unknown isolation": (pytest.mark.database(isolation="copy"), ["isolation='copy'", "recycle, clone"]),
    "empty isolation": (pytest.mark.database(isolation=""), ["isolation=''", "recycle, clone"]),
    "unknown reset": (pytest.mark.database(reset="delete"), ["reset='delete'", "truncate"]),
    "reset is true": (pytest.mark.database(reset=True), ["reset=True", "truncate"]),
    "unknown scope": (pytest.mark.database(scope="package"), ["scope='package'", "class, module, session"]),
    "scope is a list": (pytest.mark.database(scope=["class"]), ["scope=['class']", "class, module, session"]),
    "isolation and reset": (pytest.mark.database(isolation="clone", reset="truncate"), ["isolation is for a private"]),
    "isolation and scope": (pytest.mark.database(isolation="recycle", scope="class"), ["isolation is for a private"]),
    "unknown word": (pytest.mark.database(isolated="clone"), ["isolated"]),
    "by position": (pytest.mark.database("clone"), ["'clone'", "isolation="]),
}


@pytest.mark.parametrize(("marker", "said"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_wish_is_refused(marker, said):
    """A misspelt marker that is ignored gives a test another isolation than its author believes."""
    with pytest.raises(UsageError) as caught:
        wishes.database(Item(database=marker))
    message = str(caught.value)
    assert message.startswith("@pytest.mark.database")
    assert [words for words in said if words not in message] == []
    assert "__init__" not in message


def test_a_state_is_found_with_its_size_and_seed():
    """The marker takes what states.state takes."""
    found = wishes.state(Item(state=pytest.mark.state("orphans", size=7, seed=3)))
    assert found == states.state("orphans", size=7, seed=3)


def test_the_empty_state_is_none():
    """So that it shares its template with the tests that ask for nothing."""
    assert wishes.state(Item(state=pytest.mark.state("empty"))) is None


WRONG_STATES = {
    "no name": (pytest.mark.state(), ["@pytest.mark.state", "name"]),
    "unknown": (pytest.mark.state("orphan"), ["'orphan'", "Did you mean orphans?"]),
    "unknown word": (pytest.mark.state("orphans", rows=7), ["@pytest.mark.state", "rows"]),
    "size of what has none": (pytest.mark.state("hand_made", size=3), ["hand_made has no size"]),
    "size too small": (pytest.mark.state("orphans", size=0), ["The size of the state orphans is 0"]),
    "seed below 0": (pytest.mark.state("orphans", seed=-1), ["The seed of the state orphans is -1"]),
    "not a name": (pytest.mark.state(7), ["There is no state 7"]),
}


@pytest.mark.parametrize(("marker", "said"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_a_wrong_state_is_refused(marker, said):
    """The test would run on other rows than it was written for."""
    with pytest.raises(UsageError) as caught:
        wishes.state(Item(state=marker))
    assert [words for words in said if words not in str(caught.value)] == []
