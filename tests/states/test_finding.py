"""States are found by their name, checked, and told apart by what they are made of."""

import inspect
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from session_fix import folders, states
from session_fix.errors import UsageError
from session_fix.rollout import objects

PARAMETERS = ["connection", "size", "seed", "progress"]
SIZED = [name for name in states.names() if states.state(name).size]
REVISIONS = {None, states.HEAD, *objects.revisions()}
UNSIZED = [name for name in states.names() if name not in SIZED]


def faults(module):
    """Return what a state's module lacks."""
    lines = (module.__doc__ or "").strip().splitlines()
    fill = getattr(module, "fill", None)
    found = {
        "no first line that ends a sentence": not lines or not lines[0].endswith("."),
        "no word on what it represents": len(lines) < 3 or bool(lines[1]),
        "REVISION is none of the migrations": getattr(module, "REVISION", "") not in REVISIONS,
        "SIZE is not a whole number": type(getattr(module, "SIZE", None)) is not int,
        "fill() is not called as the others are": not fill or list(inspect.signature(fill).parameters) != PARAMETERS,
        "its name does not fit a database's": not re.fullmatch("[a-z][a-z0-9_]*", module.__name__.rpartition(".")[2]),
    }
    return [fault for fault, is_there in found.items() if is_there]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a copy of the states' folder; the loader reads their code there."""
    folder = tmp_path / "fixtures" / "states"
    shutil.copytree(folders.bundled("fixtures") / "states", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("session_fix.__path__", [str(tmp_path)])
    return folder


def test_the_states_that_ship():
    """Their names are written in tests that are not ours; one that goes is a broken promise."""
    assert states.names() == ("empty", "hand_made", "large", "orphans", "production_after_the_bug")
    assert states.DEFAULT in states.names()


@pytest.mark.parametrize("name", states.names())
def test_each_state_is_complete(name):
    """The loader takes a module as it is, so this is what stands between it and an AttributeError."""
    assert faults(import_module(f"session_fix.fixtures.states.{name}")) == []


def test_an_incomplete_state_is_noticed():
    """The check above can fail, in each of its points."""
    assert len(faults(ModuleType("Not-a-name"))) == 6
    cut_short = ModuleType("cut_short", "A state.\nWithout a blank line.\n")
    cut_short.REVISION, cut_short.SIZE, cut_short.fill = "0001", "7", lambda connection: connection
    assert len(faults(cut_short)) == 4


@pytest.mark.parametrize("name", states.names())
def test_each_state_is_built_by_a_test(name):
    """A content that nobody has looked at is only called what it is."""
    written = (Path(__file__).parent / "test_contents.py").read_text()
    assert f'build("{name}"' in written


def test_a_state_says_what_it_is():
    """One line of each is what a list of them shows."""
    assert states.state("empty").summary == "Both tables as the migrations leave them, without a row."


def test_what_the_bug_left_lies_in_the_schema_of_before_the_rollout():
    """A rollout, and the repair in it, is tried on these; what was made by hand is in a database with nothing in it."""
    before = dict.fromkeys(("orphans", "production_after_the_bug"), "0002_api_grants")
    expected = {"empty": states.HEAD, "hand_made": None, "large": states.HEAD, **before}
    assert {name: states.state(name).revision for name in states.names()} == expected


def test_defaults():
    """What is not chosen is the state's own size and one seed for all."""
    assert (states.state("large").size, states.state("large").seed) == (100_000, 0)
    assert (states.state("empty").size, states.state("empty").seed) == (0, 0)
    assert states.state("large", size=7, seed=3) == states.State("large", 7, 3)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("orphan", "Did you mean orphans?"),
        ("production_after_bug", "Did you mean production_after_the_bug?"),
        ("handmade", "Did you mean hand_made?"),
        ("zzz", "there are empty, hand_made, large, orphans, production_after_the_bug.$"),
        ("_rows", "there are empty"),
        ("../states/empty", "There is no state"),
        (None, "There is no state None"),
        (7, "There is no state 7"),
    ],
)
def test_an_unknown_name_is_refused(wrong, hint):
    """A misspelt name must not become a test that starts from nothing."""
    with pytest.raises(UsageError, match=hint):
        states.state(wrong)


@pytest.mark.parametrize("size", [0, -1, states.LARGEST + 1, 1.0, "5", True])
@pytest.mark.parametrize("name", SIZED)
def test_a_size_out_of_range_is_refused(name, size):
    """The largest fills a disk; True and 1.0 are slips of the keyboard."""
    with pytest.raises(UsageError, match=f"The size of the state {name} is .*from 1 to 50,000,000"):
        states.state(name, size=size)


@pytest.mark.parametrize("name", SIZED)
def test_sizes_at_the_edges_are_taken(name):
    """One is a size, and so is the largest."""
    assert [states.state(name, size=size).size for size in (1, states.LARGEST)] == [1, states.LARGEST]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("name", UNSIZED)
def test_a_size_where_there_is_none_is_refused(name, size):
    """Somebody who asks for a thousand rows of nothing expects something else."""
    with pytest.raises(UsageError, match=f"The state {name} has no size; leave size={size} out"):
        states.state(name, size=size)


@pytest.mark.parametrize("seed", [-1, states.LARGEST_SEED + 1, 1.0, "5", False])
def test_a_seed_out_of_range_is_refused(seed):
    """Python draws the same from -1 as from 1, under another label."""
    with pytest.raises(UsageError, match="The seed of the state large"):
        states.state("large", seed=seed)


def test_digest_and_label_differ_wherever_the_content_does():
    """A cache that takes one state for another hands a test the wrong database."""
    chosen = [states.state(name) for name in states.names()]
    chosen += [states.state(name, size=size, seed=seed) for name in SIZED for size in (1, 11) for seed in (0, 1, 11)]
    assert len({one.digest for one in chosen}) == len({one.label for one in chosen}) == len(chosen)


def test_digest_and_label_stay_as_long_as_the_content_does():
    """Else nothing would ever be found in a cache."""
    first, second = states.state("large", size=5), states.state("large", size=5, seed=0)
    assert (first.digest, first.label) == (second.digest, second.label)


@pytest.mark.parametrize("name", [*states.names(), "a_state_with_a_name_that_is_far_too_long_for_a_database"])
def test_a_label_fits_into_a_databases_name(name, copied):
    """PostgreSQL cuts a longer name without a word; two states could end up under one."""
    (copied / f"{name}.py").touch()
    label = states.State(name, 0, 0).label
    assert re.fullmatch("[a-z0-9_]{10,40}", label)
    assert label.startswith(name[:24])


@pytest.mark.parametrize("changed", ["large.py", "_rows.py", "_traffic.py"])
def test_the_digest_follows_the_code(copied, changed):
    """A state cached before its code changed is not what the code makes."""
    before = states.state("large").digest
    with (copied / changed).open("a") as file:
        file.write("\n")
    assert states.state("large").digest != before


def test_the_digest_follows_no_other_states_code(copied):
    """Work on one state must not have all others built again."""
    before = states.state("large").digest
    with (copied / "orphans.py").open("a") as file:
        file.write("\n")
    assert states.state("large").digest == before


def test_naming_states_imports_neither_alembic_nor_sqlalchemy():
    """They take a second, and a run that finds its states in a cache needs neither."""
    code = (
        "import sys; from session_fix import states; [states.state(name).label for name in states.names()]; "
        "print(sorted({'alembic', 'sqlalchemy', 'supabase', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
