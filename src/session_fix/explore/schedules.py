"""Which client goes next: all orders, a sample of them, or one order that is given. Pure; nothing is performed here.

How many calls a client makes is not known before it has made them, and may depend on the order: a search is asked at
each point of a run, and learns the tree of orders by the answers it gave.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

from session_fix.explore.accesses import Access, independent

Enabled = Mapping[int, "Waiting"]  # by client


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client's call that waits: what it is, the same in every run, and what it touches in this one."""

    what: str
    access: Access | None


@dataclass(frozen=True, slots=True)
class Point:
    """A moment at which one of several clients was let through."""

    chosen: int
    enabled: Enabled
    mark: str = ""


DROPPED, CARRIED_OUT = "!", "?"  # marks: the client's process is killed, its call dropped, or carried out all the same


class InfeasibleError(Exception):
    """An order that was given cannot happen; the message says from where on."""


class UnstableError(Exception):
    """The same calls in the same order led to something else than before: nothing can be said about all orders."""


class Search(Protocol):
    """Chooses, run after run, who goes next.

    ``mark`` says after ``choose`` whether that is the last thing the client's process does.
    """

    mark: str

    @property
    def repeats(self) -> bool:
        """Whether the present run is none that counts."""

    def begin(self) -> bool:
        """Begin another run; false when there is none left."""

    def choose(self, enabled: Enabled) -> int:
        """Return one of the clients that wait. Raises ``InfeasibleError`` or ``UnstableError``."""

    def check_ended(self) -> None:
        """Be told that all clients have finished. Raises what ``choose`` does where they should not have."""


@dataclass(slots=True)
class _Node:
    whats: dict[int, str]
    enabled: Enabled
    sleeping: frozenset[int]
    chosen: int
    wanted: set[int]
    tried: set[int] = field(default_factory=set)


class Exhaustive:
    """Every order once, depth first; with ``prune`` one of those that differ only in the order of independent calls.

    Pruning is dynamic partial-order reduction with sleep sets and source sets. Where two dependent calls follow each
    other, and nothing between them needs the first, the second is to come first once: a client is tried that can begin
    what leads there. A client whose call was tried is not tried again after others went first, as long as those were
    independent of it. Sources: P. Abdulla and others, "Optimal Dynamic Partial Order Reduction", POPL 2014, section 5;
    P. Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996, section 5.

    ``most_switches`` leaves out orders that more often leave a client which could go on.
    """

    mark = ""

    def __init__(self, *, prune: bool = True, most_switches: int | None = None) -> None:
        self.prunes = prune
        self._most_switches = most_switches
        self._nodes: list[_Node] = []
        self._depth = 0
        self._begun = False
        self.repeats = False  # whether the present run is an equivalent of one before, as some have to be

    def begin(self) -> bool:
        """Turn back to the last point where something else can be tried."""
        self._depth, self.repeats = 0, False
        if not self._begun:
            self._begun = True
            return True
        if self.prunes:
            self._want_other_orders()
        while self._nodes:
            node = self._nodes[-1]
            node.tried.add(node.chosen)
            if left := self._candidates(len(self._nodes) - 1, node):
                node.chosen = left[0]
                return True
            self._nodes.pop()
        return False

    def choose(self, enabled: Enabled) -> int:
        """Repeat the way to the last point, choose there, and go on as the first who can."""
        if self.repeats:
            return min(enabled)
        whats = {client: waiting.what for client, waiting in enabled.items()}
        if self._depth == len(self._nodes):
            node = _Node(whats, enabled, self._sleeping(), chosen=-1, wanted=set(enabled))
            left = self._candidates(self._depth, node)
            if not left:  # it is brought to its end all the same, and nothing is to be learned from it
                self.repeats = True
                return min(enabled)
            node.chosen = left[0]
            if self.prunes:
                node.wanted = {node.chosen}
            self._nodes.append(node)
        else:
            node = self._nodes[self._depth]
            if node.whats != whats:
                raise UnstableError(f"After {self._depth} calls the clients wait with {whats}; before: {node.whats}.")
            node.enabled = enabled  # keys differ from run to run
        self._depth += 1
        return node.chosen

    def check_ended(self) -> None:
        """Raise ``UnstableError`` when the way to the last point was longer before."""
        if self._depth < len(self._nodes):
            before = self._nodes[self._depth].whats
            raise UnstableError(
                f"After {self._depth} calls all clients have finished; before, they waited with {before}."
            )

    def _want_other_orders(self) -> None:
        """For two dependent calls, want what lets the second come first, unless that is wanted or known already."""
        needed = self._needed()
        for later, node in enumerate(self._nodes):
            for earlier in needed[later]:
                before = self._nodes[earlier]
                if before.chosen == node.chosen or any(earlier in needed[between] for between in needed[later]):
                    continue
                moved = {at for at in range(earlier + 1, later) if earlier not in needed[at]} | {later}
                first = {self._nodes[at].chosen for at in moved if not needed[at] & moved}
                if not first & (before.wanted | before.sleeping):
                    before.wanted.add(min(first))

    def _needed(self) -> list[set[int]]:
        """Return for each call of the run those that come before it in every equivalent run."""
        needed: list[set[int]] = []
        for node in self._nodes:
            access = node.enabled[node.chosen].access
            found: set[int] = set()
            for at, before in enumerate(self._nodes[: len(needed)]):
                if before.chosen == node.chosen or not independent(before.enabled[before.chosen].access, access):
                    found |= needed[at] | {at}
            needed.append(found)
        return needed

    def _sleeping(self) -> frozenset[int]:
        """Return the clients that need not be tried here: whatever they lead to has been seen."""
        if not self.prunes or not self._nodes:
            return frozenset()
        before = self._nodes[-1]
        moved = before.enabled[before.chosen].access
        candidates = (before.sleeping | before.tried) - {before.chosen}
        return frozenset(c for c in candidates if independent(before.enabled[c].access, moved))

    def _candidates(self, depth: int, node: _Node) -> list[int]:
        left = [client for client in node.wanted if client not in node.tried and client not in node.sleeping]
        last = self._nodes[depth - 1].chosen if depth else None
        if last in node.whats and self._most_switches is not None and self._switches(depth) >= self._most_switches:
            left = [client for client in left if client == last]
        return self._preferred(depth, sorted(left))

    def _preferred(self, depth: int, clients: list[int]) -> list[int]:
        """Return the clients with the one first that went last: what changes seldom is easier to read."""
        last = self._nodes[depth - 1].chosen if depth else None
        return sorted(clients, key=lambda client: client != last)

    def _switches(self, depth: int) -> int:
        return switches([Point(node.chosen, node.enabled) for node in self._nodes[:depth]])


class Sample:
    """Orders by chance, the same for the same seed: by turns uniformly at each point, and by priorities (PCT).

    PCT lets the client with the highest priority go, and lowers it at a few points chosen at random: it finds what
    needs few switches. Source: S. Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of
    Finding Bugs", ASPLOS 2010.
    """

    CHANGES = 2
    mark = ""
    repeats = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._run = -1
        self._longest = 8
        self._depth = 0

    def begin(self) -> bool:
        """Throw the dice for another run."""
        self._run += 1
        self._longest = max(self._longest, self._depth)
        self._depth = 0
        self._random = random.Random(f"{self._seed}/{self._run}")  # noqa: S311  to be repeated, not to be secret
        self._priorities: dict[int, float] = {}
        self._changes = {self._random.randrange(self._longest) for _ in range(self.CHANGES)}
        return True

    def choose(self, enabled: Enabled) -> int:
        """Return a client by chance."""
        clients = sorted(enabled)
        if self._run % 2 == 0:
            self._depth += 1
            return self._random.choice(clients)
        for client in clients:
            self._priorities.setdefault(client, 1 + self._random.random())
        highest = max(clients, key=self._priorities.__getitem__)
        if self._depth in self._changes:
            self._priorities[highest] = self._random.random() / (1 + self._depth)
            highest = max(clients, key=self._priorities.__getitem__)
        self._depth += 1
        return highest

    def check_ended(self) -> None:
        """Whatever a run came to is fine: nothing is repeated."""


class Given:
    """One order, as often as it is asked for; used to run a recorded one again. ``marks`` are by position."""

    repeats = False

    def __init__(
        self, order: Sequence[int], times: int = 1, *, marks: Mapping[int, str] = MappingProxyType({})
    ) -> None:
        self._order = tuple(order)
        self._marks = marks
        self._left = times
        self._depth = 0
        self.mark = ""

    def begin(self) -> bool:
        """Begin it again."""
        self._depth = 0
        self._left -= 1
        return self._left >= 0

    def choose(self, enabled: Enabled) -> int:
        """Return the client that the order names. Raises ``InfeasibleError`` when that has no call to make."""
        waiting = ", ".join(f"{named(client)} with {enabled[client].what}" for client in sorted(enabled))
        if self._depth == len(self._order):
            raise InfeasibleError(
                f"The order ends after {self._depth} calls, and at the gate there is still {waiting}."
            )
        chosen = self._order[self._depth]
        if chosen not in enabled:
            raise InfeasibleError(
                f"Call {self._depth + 1} of the order is {named(chosen)}'s, which has none to make. "
                f"At the gate: {waiting}."
            )
        self.mark = self._marks.get(self._depth, "")
        self._depth += 1
        return chosen

    def check_ended(self) -> None:
        """Raise ``InfeasibleError`` when the run was over before the order was."""
        if self._depth < len(self._order):
            left = " ".join(map(named, self._order[self._depth :]))
            raise InfeasibleError(
                f"All clients have finished after {self._depth} calls; the order goes on with {left}."
            )


def written(points: Sequence[Point]) -> str:
    """Return an order as it is shown and saved."""
    return " ".join(f"{named(point.chosen)}{point.mark}" for point in points)


def named(client: int) -> str:
    """Return a client's letter."""
    return chr(ord("A") + client)


def switches(points: Sequence[Point]) -> int:
    """Return how often a client was left that could have gone on."""
    return sum(before.chosen != after.chosen and before.chosen in after.enabled for before, after in pairwise(points))


def equivalents(points: Sequence[Point]) -> int:
    """Return how many orders differ from a run only in the order of independent calls, itself included. Exact.

    They are the orders in which every pair of dependent calls stays as it is: the linear extensions of that relation,
    counted over how far each client has come.
    """
    calls: dict[int, list[tuple[int, Access | None]]] = {}
    for position, point in enumerate(points):
        calls.setdefault(point.chosen, []).append((position, point.enabled[point.chosen].access))
    clients = sorted(calls)

    def needed(client: int, index: int) -> tuple[int, ...]:
        """Return how many calls of each client have to come before one call."""
        position, access = calls[client][index]
        return tuple(
            max(
                (k + 1 for k, (p, a) in enumerate(calls[other]) if p < position and not independent(a, access)),
                default=0,
            )
            if other != client
            else index
            for other in clients
        )

    wants = {(client, index): needed(client, index) for client in clients for index in range(len(calls[client]))}

    @cache
    def ways(done: tuple[int, ...]) -> int:
        found = 0
        for place, client in enumerate(clients):
            if done[place] < len(calls[client]):
                want = wants[client, done[place]]
                if all(have >= need for have, need in zip(done, want, strict=True)):
                    found += ways((*done[:place], done[place] + 1, *done[place + 1 :]))
        return found or 1

    return ways((0,) * len(clients))
