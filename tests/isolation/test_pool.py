"""A pool: somebody is served at once, what is given back is handed out again, and an error is told once."""

import os
import threading

import pytest

from session_fix.isolation import sizing
from session_fix.isolation.pool import Pool
from session_fix.isolation.tasks import Tasks, Until


class Gate:
    """A pipe that a task waits at until somebody opens it."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def open(self):
        """Let through whoever waits, and whoever comes."""
        os.write(self.writer, b".")

    def close(self):
        """Close the pipe."""
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def gate():
    """Yield a gate that is closed."""
    found = Gate()
    yield found
    found.close()


class Work:
    """Makes 1, 2, 3 ... and renews by what it is told; either may wait at a gate, or fail."""

    def __init__(self):
        self.made, self.failures, self.at = 0, [], None
        self.renewed = lambda used: used

    def make(self):
        """Return the next number."""
        yield from self._passed()
        self.made += 1
        return self.made

    def renew(self, used):
        """Return what is told."""
        yield from self._passed()
        return self.renewed(used)

    def _passed(self):
        at = self.at
        if at:
            yield Until(at.reader)
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def work():
    """Return what a pool does."""
    return Work()


@pytest.fixture
def tasks():
    """Return the tasks of a pool."""
    return Tasks()


@pytest.fixture(autouse=True)
def pace(monkeypatch):
    """Have one made ahead, however fast this machine is just now; return what the pool said of the pace."""
    told = []
    monkeypatch.setattr(sizing, "wanted", lambda *pace: told.append(pace) or 1)
    return told


@pytest.fixture
def pool(work, tasks):
    """Return a pool that makes one ahead."""
    return Pool(tasks, work.make, work.renew)


@pytest.fixture
def on_demand(monkeypatch):
    """Have nothing made before somebody asks."""
    monkeypatch.setattr(sizing, "wanted", lambda *_: 0)


def test_the_next_one_is_made_before_anybody_asks(pool, work):
    """That is what a pool is for."""
    assert pool.take() == 1
    assert work.made == 2
    assert pool.emptied() == [2]


def test_how_many_is_asked_of_what_was_measured(pool, pace):
    """Where tests ask faster than one is made, one ahead is too few."""
    pool.take()
    pool.give_back(pool.take())
    making_s, between_s = pace[-1]
    assert making_s > 0
    assert between_s > 0


def test_nothing_is_made_before_the_first_asks(pool, work):
    """A run whose tests want no database makes none."""
    assert pool.emptied() == []
    assert work.made == 0


@pytest.mark.usefixtures("on_demand")
def test_what_was_given_back_is_handed_out_renewed(pool, work):
    """A renewed one is cheaper than a new one."""
    work.renewed = lambda used: used + 100
    pool.give_back(pool.take())
    assert pool.take() == 101
    assert work.made == 1


@pytest.mark.usefixtures("on_demand")
def test_what_cannot_be_renewed_is_made_anew_for_who_waits(pool, work, gate):
    """Else who waits for it would wait for ever."""
    first = pool.take()
    work.renewed, work.at = lambda _: None, gate
    pool.give_back(first)
    work.at = None
    threading.Timer(0.05, gate.open).start()
    assert pool.take() == 2


def test_who_asks_does_not_wait_while_one_is_ready(pool, work, gate):
    """Renewing goes on beside the next test."""
    first = pool.take()
    work.at = gate
    pool.give_back(first)
    assert pool.take() == 2
    assert pool.emptied() == []


@pytest.mark.usefixtures("on_demand")
@pytest.mark.parametrize("during", ["make", "renew"])
def test_an_error_is_raised_once(pool, work, during):
    """Who asks next is told, and the one after that may be luckier."""
    if during == "renew":
        taken = pool.take()
        work.failures.append(ValueError("spoilt"))
        pool.give_back(taken)
    else:
        work.failures.append(ValueError("spoilt"))
    with pytest.raises(ValueError, match="spoilt"):
        pool.take()
    assert pool.take() == work.made
    assert pool.take() == work.made


def test_an_error_is_not_kept_from_who_finds_one_ready(pool, work):
    """It is about what a test did to all of them, and would be said of another test or of none."""
    first = pool.take()
    work.failures.append(ValueError("spoilt"))
    pool.give_back(first)
    with pytest.raises(ValueError, match="spoilt"):
        pool.take()


def test_what_fails_at_once_is_not_tried_before_somebody_asks(pool, work):
    """A server that has gone fails everything as soon as it is begun, and for ever."""
    first = pool.take()
    pool.emptied()
    work.failures = [ValueError("spoilt"), ValueError("again"), ValueError("and again")]
    pool.give_back(first)
    assert len(work.failures) == 2
    with pytest.raises(ValueError, match="spoilt"):
        pool.take()


def test_one_that_turns_out_not_to_be_renewed_is_made_anew_ahead(pool, work, tasks, gate):
    """Who asks next would wait for all of its making."""
    first, _ = pool.take(), pool.take()
    work.renewed, work.at = lambda _: None, gate
    pool.give_back(first)
    work.at = None
    gate.open()
    tasks.finish()
    assert pool.emptied() == [3]


def test_finishing_leaves_all_of_them_ready(pool, work, tasks, gate):
    """A database that is being made when a run ends must not be left on somebody's server."""
    first = pool.take()
    work.at = gate
    pool.give_back(first)
    gate.open()
    tasks.finish()
    assert sorted(pool.emptied()) == [1, 2]
    assert pool.emptied() == []


def test_nobody_gets_what_another_has(pool, work):
    """Two tests in one database would be worse than none."""
    work.renewed = lambda used: used if used % 3 else None
    held = []
    for number in range(200):
        taken = pool.take()
        assert taken not in held
        held.append(taken)
        if number % 2:
            pool.give_back(held.pop(0))
            pool.give_back(held.pop())


def test_no_thread_is_started(pool, tasks):
    """A thread of ours would hold Python's lock when a test wants it."""
    before = threading.active_count()
    pool.give_back(pool.take())
    tasks.finish()
    assert threading.active_count() == before
