"""All orders of small programs, on a machine in memory: none is left out, and what is pruned is known already."""

import random
from collections import Counter
from math import comb

import pytest

from session_fix.explore import schedules
from session_fix.explore.accesses import Touch, independent
from session_fix.explore.schedules import Exhaustive, Point, UnstableError, Waiting, equivalents, switches

R, W, A = "read", "write", "append"
PROGRAMS = {2: 300, 3: 60}  # how many, by clients
FOUR = [(call, call) for call in [(R, "s"), (W, "s"), (W, "i"), (A, "s")]]


def client(number, steps):
    """Make a program's calls; each step names one for when the last that was read is even, and one for odd."""
    seen = 0
    for index, step in enumerate(steps):
        if call := step[seen % 2]:
            seen = yield (*call, 1 + 3 * number + index)


class Machine:
    """Keys with numbers, and clients whose next call may depend on what they read."""

    def __init__(self, programs):
        self._numbers = {}
        self._log = {number: [] for number in range(len(programs))}
        self._clients = {number: client(number, steps) for number, steps in enumerate(programs)}
        self.waiting = {}
        for number in self._clients:
            self._go_on(number, None)

    def _go_on(self, number, seen):
        try:
            self.waiting[number] = self._clients[number].send(seen)
        except StopIteration:
            self.waiting.pop(number, None)

    def let_through(self, number):
        """Perform the call of one client, and let it go on to its next."""
        kind, key, value = self.waiting[number]
        before = self._numbers.get(key, 0)
        if kind != R:
            self._numbers[key] = value if kind == W else 5 * before + value
        seen = 0 if kind == W else before
        self._log[number].append((kind, key, seen))
        self._go_on(number, seen)

    @property
    def enabled(self):
        """The calls that wait, as a search is shown them."""
        return {
            number: Waiting(f"{kind} {key}", (Touch("t", key, writes=kind != R),))
            for number, (kind, key, _) in self.waiting.items()
        }

    @property
    def outcome(self):
        """What every client saw, and what is left."""
        return (tuple(sorted(self._numbers.items())), tuple(tuple(log) for log in self._log.values()))


def perform(programs, search):
    """Perform one run; return its points and its outcome."""
    machine, points = Machine(programs), []
    while enabled := machine.enabled:
        points.append(Point(search.choose(enabled), enabled))
        machine.let_through(points[-1].chosen)
    search.check_ended()
    return points, machine.outcome


def explored(programs, search):
    """Perform all runs of a search; return (order, outcome, equivalents, whether it repeats one) of each."""
    runs = []
    while search.begin():
        points, outcome = perform(programs, search)
        runs.append((tuple(point.chosen for point in points), outcome, equivalents(points), search.repeats))
        assert len(runs) <= 5000, "it does not end"
    return runs


def every_order(programs, so_far=()):
    """Yield each order and its outcome, one by one, without any thought."""
    machine = Machine(programs)
    for number in so_far:
        machine.let_through(number)
    if not machine.waiting:
        yield so_far, machine.outcome
    for number in machine.waiting:
        yield from every_order(programs, (*so_far, number))


def some_programs(clients):
    """Yield small programs by chance, the same every time."""
    dice = random.Random(f"programs of {clients} clients")  # noqa: S311  to be repeated
    for _ in range(PROGRAMS[clients]):
        keys = "xyz"[: dice.randint(1, 3)]

        def call(keys=keys):
            return (dice.choice([R, R, W, A]), dice.choice(keys)) if dice.random() < 0.85 else None

        def step(call=call):
            usual = call()
            return (usual, usual if dice.random() < 0.6 else call())

        yield [[step() for _ in range(dice.randint(1, 4 if clients == 2 else 2))] for _ in range(clients)]


def difference(programs):
    """Return how pruning differs from every order: the outcomes it lost, how many orders it missed or made up."""
    every = dict(every_order(programs))
    runs = explored(programs, Exhaustive())
    counted = sum(count for _, _, count, repeats in runs if not repeats)
    return set(every.values()) - {outcome for _, outcome, _, _ in runs}, counted - len(every)


@pytest.mark.parametrize(("calls", "orders"), [([2, 2], 6), ([4, 4], 70), ([2, 4], 15), ([4, 5], 126), ([2, 2, 2], 90)])
def test_the_number_of_orders_is_the_one_from_the_book(calls, orders):
    """A number that everybody can check: multinomial coefficients."""
    runs = explored([[((A, "s"), (A, "s"))] * count for count in calls], Exhaustive(prune=False))
    assert len(runs) == len({order for order, *_ in runs}) == orders
    assert all(Counter(order) == Counter(dict(enumerate(calls))) for order, *_ in runs)


@pytest.mark.parametrize("clients", PROGRAMS)
def test_unpruned_every_order_is_run_once(clients):
    """Also where what a client does next depends on the order."""
    for programs in some_programs(clients):
        runs = explored(programs, Exhaustive(prune=False))
        every = list(every_order(programs))
        assert sorted((order, outcome) for order, outcome, *_ in runs) == sorted(every), programs


@pytest.mark.parametrize("clients", PROGRAMS)
def test_pruned_nothing_that_can_come_of_it_is_lost_and_all_orders_are_counted(clients):
    """It is what "all orders" in the report rests on."""
    saved = 0
    for programs in some_programs(clients):
        every = dict(every_order(programs))
        runs = explored(programs, Exhaustive())
        assert {outcome for _, outcome, *_ in runs} == set(every.values()), programs
        assert sum(count for _, _, count, repeats in runs if not repeats) == len(every), programs
        assert len({order for order, *_ in runs}) == len(runs), programs
        saved += len(every) - len(runs)
    assert saved > 500, "pruning has to be good for something"


def broken_sleep(search):
    """Return the clients whose calls were tried, whatever has happened since."""
    before = search._nodes[-1] if search._nodes else None  # noqa: SLF001  it takes the method's place
    return (before.sleeping | before.tried) - {before.chosen} if before else frozenset()


def want_only_the_second(search):
    """Want the client of the second of two dependent calls: where that one sleeps, nobody begins what leads there."""
    nodes = search._nodes  # noqa: SLF001  it takes the method's place
    for later, node in enumerate(nodes):
        for before in nodes[:later]:
            accesses = (one.enabled[one.chosen].access for one in (before, node))
            if before.chosen != node.chosen and not independent(*accesses):
                before.wanted.add(node.chosen)


@pytest.mark.parametrize(
    ("clients", "place", "name", "broken"),
    [
        (2, schedules, "independent", lambda *_: True),
        (2, Exhaustive, "_want_other_orders", lambda _: None),
        (2, Exhaustive, "_sleeping", broken_sleep),
        (3, Exhaustive, "_want_other_orders", want_only_the_second),
    ],
    ids=["everything is independent", "no other order is wanted", "nobody wakes up", "only the second is wanted"],
)
def test_a_search_that_prunes_too_much_is_noticed(monkeypatch, clients, place, name, broken):
    """Mutants: each loses outcomes of programs that the test above goes through."""
    monkeypatch.setattr(place, name, broken)
    lost, miscounted = zip(*map(difference, some_programs(clients)), strict=True)
    assert any(lost)
    assert any(miscounted)


def test_a_search_that_prunes_too_little_is_noticed(monkeypatch):
    """Mutant: what is tried again after others went first is run, and counted, twice."""
    monkeypatch.setattr(Exhaustive, "_sleeping", lambda _: frozenset())
    lost, miscounted = zip(*map(difference, some_programs(3)), strict=True)
    assert not any(lost)
    assert sum(count > 0 for count in miscounted) >= 10


def test_calls_on_different_keys_are_run_in_one_order():
    """The least there is to run, and the most there is to count."""
    apart = [[((A, key), (A, key))] * 4 for key in "xy"]
    assert [count for *_, count, _ in explored(apart, Exhaustive())] == [70]


@pytest.mark.parametrize("most", range(8))
def test_orders_with_few_switches_are_all_those_orders(most):
    """A counterexample is called the simplest because all that are simpler were run."""
    programs = [FOUR, FOUR]
    found = {order for order, *_ in explored(programs, Exhaustive(prune=False, most_switches=most))}
    assert found == {order for order, _ in every_order(programs) if left(order) <= most}


def left(order):
    """Return how often a client of four calls was left before its last."""
    done, count = Counter(), 0
    for number, following in zip(order, [*order[1:], order[-1]], strict=True):
        done[number] += 1
        count += number != following and done[number] < 4
    return count


def test_switches_are_counted_where_a_client_could_have_gone_on():
    """Whoever has finished is not left."""
    for order, *_ in explored([FOUR, FOUR], Exhaustive(prune=False)):
        ends = {number: max(i for i, one in enumerate(order) if one == number) for number in order}
        points = [
            Point(number, {one: Waiting("", ()) for one, end in ends.items() if end >= index})
            for index, number in enumerate(order)
        ]
        assert switches(points) == left(order)


def test_equivalents_of_one_run():
    """The ways to merge two sequences that have nothing to do with each other, and the one of two that do."""
    free, bound = ((Touch("t", "x"),), (Touch("u", "x", writes=True),)), ((Touch("t", writes=True),),) * 2
    for accesses, count in ((free, comb(6, 3)), (bound, 1)):
        enabled = {number: Waiting("", access) for number, access in enumerate(accesses)}
        assert equivalents([Point(number, enabled) for number in (0, 1, 0, 1, 0, 1)]) == count
    assert equivalents([]) == 1


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ([((R, "z"), (R, "z")), *FOUR[1:]], "After 0 calls"),
        ([*FOUR[:3], ((R, "z"), (R, "z"))], "After 3 calls"),
        (FOUR[:2], "After 2 calls"),
    ],
)
@pytest.mark.parametrize("prune", [True, False])
def test_the_same_order_that_leads_to_other_calls_ends_the_search(later, said, prune):
    """All orders of a service that remembers runs are not to be had, and nobody may believe they were."""
    search = Exhaustive(prune=prune)
    assert search.begin()
    perform([FOUR, FOUR], search)

    def go_on():
        while search.begin():
            perform([later, FOUR], search)

    with pytest.raises(UnstableError, match=said):
        go_on()
