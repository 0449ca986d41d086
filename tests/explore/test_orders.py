"""One order that is given, and orders by chance."""

import pytest

from session_fix.explore.schedules import Exhaustive, Given, InfeasibleError, Sample, UnstableError, Waiting

CALL = Waiting("GET x", ())


def run(search, calls):
    """Perform a run of clients with so many calls each; return its order."""
    left, order = dict(enumerate(calls)), []
    while enabled := {client: CALL for client, count in left.items() if count}:
        order.append(search.choose(enabled))
        left[order[-1]] -= 1
    search.check_ended()
    return tuple(order)


def sampled(seed, runs, calls=(4, 4, 4)):
    """Return the orders of the first runs of a sample."""
    search = Sample(seed)
    return [run(search, calls) for _ in range(runs) if search.begin()]


@pytest.mark.parametrize("times", [1, 3])
def test_a_given_order_is_performed_exactly_as_often_as_it_was_asked_for(times):
    """What was recorded is what happens again."""
    search, order = Given((1, 0, 0, 1), times), []
    while search.begin():
        order.append(run(search, (2, 2)))
    assert order == [(1, 0, 0, 1)] * times


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ((0, 0, 0), r"Call 3 of the order is A's, which has none to make\. At the gate: B with GET x\."),
        ((2,), r"Call 1 of the order is C's, which has none to make\. At the gate: A with GET x, B with GET x\."),
        ((0, 1, 0), r"The order ends after 3 calls, and at the gate there is still B with GET x\."),
        ((), r"The order ends after 0 calls, and at the gate there is still A with GET x, B with GET x\."),
        ((0, 1, 0, 1, 1, 0), r"All clients have finished after 4 calls; the order goes on with B A\."),
    ],
)
def test_an_order_that_cannot_happen_is_refused_at_the_call_where_it_cannot_go_on(order, said):
    """Whoever edited a file needs to know which letter it was."""
    search = Given(order)
    assert search.begin()
    with pytest.raises(InfeasibleError, match=said):
        run(search, (2, 2))


def test_a_run_that_ends_before_the_last_one_did_is_noticed():
    """A service that remembers may make fewer calls from run to run, down to none."""
    search = Exhaustive()
    assert search.begin()
    run(search, (2, 2))
    assert search.begin() is False, "calls that touch nothing have one order"
    search = Exhaustive(prune=False)
    assert search.begin()
    run(search, (2, 2))
    assert search.begin()
    with pytest.raises(UnstableError, match="After 0 calls all clients have finished"):
        run(search, (0, 0))


def test_the_same_seed_gives_the_same_orders_and_another_gives_others():
    """A finding in a sample can be had again."""
    assert sampled(7, 50) == sampled(7, 50)
    assert sampled(7, 50) != sampled(8, 50)
    assert len(set(sampled(7, 50))) >= 40


def test_a_longer_sample_begins_with_the_shorter_one():
    """A larger budget finds what a smaller one found."""
    assert sampled(7, 50)[:20] == sampled(7, 20)


def races(order):
    """Say whether an order has a bug that takes two switches: B's calls 2 and 3 between A's calls 2 and 3."""
    places = {client: [i for i, one in enumerate(order) if one == client] for client in (0, 1)}
    return places[0][1] < places[1][1] and places[1][2] < places[0][2]


@pytest.mark.parametrize("seed", range(20))
def test_a_bug_that_takes_two_switches_is_found_within_a_bounded_number_of_runs(seed):
    """It is what sampling by priorities promises: with d changes in k calls, a chance of 1 in n * k ** d at least."""
    assert any(map(races, sampled(seed, 150, calls=(4, 4, 4, 4))))


@pytest.mark.parametrize("kind", [0, 1], ids=["by chance at each point", "by priorities"])
def test_both_ways_of_sampling_reach_every_order_of_few(kind):
    """What no run can ever reach would be called sampled all the same; three calls each can all be left twice."""
    found = {order for number, order in enumerate(sampled(1, 400, calls=(2, 2))) if number % 2 == kind}
    assert len(found) == 6
