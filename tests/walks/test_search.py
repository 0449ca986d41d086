"""The search for the shortest story, in worlds in memory: what it covers, finds, repeats, and leaves behind."""

import random
import subprocess
import sys

import pytest

from session_fix.errors import ServiceError
from session_fix.walks.search import NOT_REPEATED, search
from session_fix.walks.steps import CLIENTS, PROMPTS, RULES, Action, Pick, Source, plan
from session_fix.walks.walk import Contradiction

WALKS, SEED = 30, 20261122
ELSEWHERE = """
import importlib, os, sys, tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as folder:
    sys.path.insert(0, folder)
    if constants := sys.argv[1]:  # a module of the project that somebody tests
        Path(folder, "theirs.py").write_text(f"NUMBERS = {constants}")
        importlib.import_module("theirs")
    from session_fix.walks.search import draw_walks
    drawn = []
    for seed in range(10):
        draw_walks(lambda steps: drawn.append(str(steps[-1:])), walks=20, seed=seed)
print(drawn)
"""


def test_an_honest_world_passes(honest):
    """Otherwise what the tests below find would mean nothing."""
    tally = search(honest(), walks=WALKS, seed=SEED)
    assert 5 < tally.walks <= WALKS
    assert tally.steps > 3 * WALKS


def test_the_walks_take_every_kind_of_step(honest):
    """A rule that is never taken would find nothing."""
    world = honest()
    search(world, walks=WALKS, seed=SEED)
    words = " ".join(step for steps in world.taken for step in steps)
    for rule in RULES:
        assert rule.action.value in words
    assert all(f"{client}: " in words for client in CLIENTS)
    assert all(repr(prompt) in words for prompt in PROMPTS)
    assert "create_session()" in words
    assert max(map(len, world.taken)) > 10


def test_the_same_seed_gives_the_same_walks(honest):
    """A failure that nobody can repeat is of little use; the ids differ, the walks do not."""
    worlds = [honest() for _ in range(3)]
    for world, seed in zip(worlds, (SEED, SEED, SEED + 1), strict=True):
        random.seed()
        search(world, walks=WALKS, seed=seed)
    assert worlds[0].taken == worlds[1].taken != worlds[2].taken


def test_the_same_seed_gives_the_same_walks_whatever_else_is_loaded(tmp_path):
    """A test that is run again alone loads fewer modules, whose constants hypothesis draws from.

    It writes nothing, either: the folder where somebody runs their tests is theirs, ``.hypothesis`` included.
    """
    drawn = [
        subprocess.run(
            [sys.executable, "-c", ELSEWHERE, constants], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for constants in ("", str(list(range(100, 300))))
    ]
    assert drawn[0] == drawn[1] != ""
    assert list(tmp_path.iterdir()) == []


def test_a_failure_comes_down_to_its_shortest_story(honest):
    """Whatever happened before and between, these steps alone show it."""

    class Remembering(honest):
        """Makes a session once, and believes it to be there ever after."""

        def empty(self):
            super().empty()
            self.made = set()

        def create(self, session_id, user_id):
            if session_id in self.made:
                return session_id
            self.made.add(made := super().create(session_id, user_id))
            return made

    with pytest.raises(Contradiction) as found:
        search(Remembering(), walks=WALKS, seed=SEED, again="run it again")
    assert found.value.told == (
        "anna: POST /session/create -> s1",
        "anna: delete s1 -> deleted",
        "anna: POST /smart/query s1 'hello' -> True",
    )
    assert found.value.what == ("s1 is not stored",)
    assert found.value.__notes__ == ["run it again"]
    assert str(found.value).splitlines()[-1] == "  but s1 is not stored"


def test_the_walk_that_fails_is_the_last_one_taken(honest):
    """What was recorded of it is what the report shows."""

    class Losing(honest):
        """Keeps the first interaction of a walk only."""

        def log(self, session_id, prompt, response):
            if not self.interactions:
                super().log(session_id, prompt, response)

    world = Losing()
    with pytest.raises(Contradiction) as found:
        search(world, walks=WALKS, seed=SEED)
    assert world.taken[-1] == [str(step) for step in found.value.steps]
    assert len(world.taken[-1]) <= 3


def test_a_failure_that_does_not_repeat_is_still_a_failure(honest):
    """A service may count across walks; what was seen once was seen."""

    class Counting(honest):
        """Loses the seventh interaction, whoever logs it."""

        logged = 0

        def log(self, session_id, prompt, response):
            self.logged += 1
            if self.logged != 7:
                super().log(session_id, prompt, response)

    with pytest.raises(Contradiction) as found:
        search(Counting(), walks=WALKS, seed=SEED, again="run it again")
    assert "is not stored" in found.value.what[0]
    assert found.value.__notes__ == [NOT_REPEATED, "run it again"]


def test_a_service_that_died_ends_the_search_at_once(honest):
    """Each further walk would fail for it, and its shortest story would be a lie."""

    class Dying(honest):
        """Dies of the third deletion."""

        deleted = 0

        def delete(self, session_id):
            self.deleted += 1
            if self.deleted == 3:
                raise ServiceError("it is gone")
            super().delete(session_id)

    world = Dying()
    with pytest.raises(ServiceError, match="it is gone") as ended:
        search(world, walks=WALKS, seed=SEED)
    steps = ended.value.__notes__[0].splitlines()[1:]
    assert [step.partition(" -> ")[0] for step in steps] == world.taken[-1]
    assert "delete s" in steps[-1]


def test_a_plan_names_sessions_in_order_and_drops_what_has_none():
    """Names are given before anything is asked, so the same picks give the same steps with every service."""
    known, new, made = Source.KNOWN, Source.NEW, Source.MADE
    rules = {(rule.action, rule.source): rule for rule in RULES}  # a signed one where there is one
    picks = [
        Pick(rules[Action.DELETE, known]),
        Pick(rules[Action.CREATE, made]),
        Pick(rules[Action.LOG, new], "bert", prompt="why?"),
        Pick(rules[Action.CREATE_SESSION, known], "cleo", which=0),
        Pick(rules[Action.CREATE_SESSION, made], which=3),
        Pick(rules[Action.LOG, made]),
        Pick(rules[Action.QUERY, known], which=9),
    ]
    assert [str(step) for step in plan(picks)] == [
        "anna: POST /session/create",
        "bert: log_interaction('why?', session_id=s2)",
        "cleo: create_session(s1, user_id='cleo')",
        "anna: create_session(user_id='anna')",
        "anna: log_interaction('hello')",
        "anna: POST /smart/query s4 'hello'",
    ]
