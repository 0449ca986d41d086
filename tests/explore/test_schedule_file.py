"""Counterexamples as files: what is written is read back, and what cannot be read says why."""

import pytest

from session_fix.errors import UsageError
from session_fix.explore import workloads
from session_fix.explore.explorer import Counterexample, Exploration
from session_fix.explore.invariants import Violation
from session_fix.explore.runs import Contents, Run
from session_fix.explore.schedule_file import Recorded, load, text
from session_fix.explore.schedules import Point, Waiting

CALLS = {0: Waiting("POST ai_sessions", ()), 1: Waiting("GET ai_sessions id", ())}
FILE = {"workload": '"query-query"', "service": '"fixed"', "layer": '"api"', "seed": "7", "order": '"A B B A"'}


def exploration(*, workload="query-query", service="documented", other="", marks=("", "", "")):
    """Return an exploration with a counterexample of three calls."""
    points = tuple(Point(client, CALLS, mark) for client, mark in zip((0, 1, 0), marks, strict=True))
    run = Run(4, "", points, ((), ()), Contents((), ()), ())
    found = Exploration(workloads.named(workload), service, other, "api", 7, "all orders")
    found.counterexample = Counterexample(run, (Violation("I5 no error", "A's query ended with 23505"),))
    return found


def saved(tmp_path, **said):
    """Write a file that says all this; what is None is left out."""
    path = tmp_path / "order.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in (FILE | said).items() if value is not None))
    return path


@pytest.mark.parametrize(
    ("changed", "marks"),
    [
        ({}, {}),
        ({"workload": "query-query-versions", "other": "fixed"}, {}),
        ({"workload": "query-query-killed", "marks": ("", "!", "")}, {1: "!"}),
        ({"workload": "query-query-killed", "marks": ("", "?", "")}, {1: "?"}),
        ({"service": 'a "quoted" \\ path\twith ä and 🙂'}, {}),
    ],
)
def test_what_is_written_is_read_back(tmp_path, changed, marks):
    """Performing it exactly begins with reading it exactly."""
    path = tmp_path / "order.toml"
    found = exploration(**changed)
    path.write_text(text(found), encoding="utf-8")
    assert load(path) == Recorded(found.workload, found.service, found.other, "api", 7, (0, 1, 0), marks)


def test_a_service_of_ones_own_is_found_from_anywhere(tmp_path, monkeypatch):
    """A file is performed from another folder, or in CI."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.toml").write_text(text(exploration(service="mine")))
    assert load(tmp_path / "order.toml").service == str(tmp_path / "mine")


def test_the_file_says_what_it_shows():
    """People read it, and edit its order by the calls that stand below it."""
    *_, why, first, second, third = text(exploration()).splitlines()
    assert why == "# I5 no error: A's query ended with 23505"
    assert [line.split(maxsplit=2) for line in (first, second, third)] == [
        ["#", "A", "POST ai_sessions"],
        ["#", "B", "GET ai_sessions id"],
        ["#", "A", "POST ai_sessions"],
    ]


def test_small_letters_and_the_usual_seed_will_do(tmp_path):
    """Whoever writes one by hand writes the least."""
    assert load(saved(tmp_path, order='" a  b\\nb a "', seed=None)).order == (0, 1, 1, 0)
    assert load(saved(tmp_path, seed=None)).seed == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"workload": None}, "order.toml: workload must be there, as a text in quotes"),
        ({"service": None}, "order.toml: service must be there"),
        ({"service": "3"}, "order.toml: service must be there, as a text in quotes"),
        ({"layer": None}, "order.toml: layer must be there"),
        ({"order": None}, "order.toml: order must be there"),
        ({"order": '["A", "B"]'}, "order.toml: order must be there, as a text in quotes"),
        ({"other": "true"}, "order.toml: other must be there, as a text in quotes"),
        ({"seed": '"7"'}, "order.toml: seed must be a whole number"),
        ({"seed": "true"}, "order.toml: seed must be a whole number"),
        ({"seed": "7.0"}, "order.toml: seed must be a whole number"),
        ({"layer": '"rest"'}, "order.toml: layer must be api or logger or database, not 'rest'"),
        ({"workload": '"query-qurey"'}, r"no workload 'query-qurey'; .* Did you mean query-query\?"),
        ({"order": '"A C"'}, "order.toml: in the order, 'C' is no client; there are A B"),
        ({"order": '"A AB"'}, "order.toml: in the order, 'AB' is no client; there are A B"),
        ({"order": '"A !"'}, "order.toml: in the order, '' is no client; there are A B"),
        ({"order": '"A B!"'}, "order.toml: in query-query, that client's process is not one to be killed"),
        ({"prune": "true"}, "order.toml: prune is nothing that a schedule says"),
        ({"order": "A B"}, "order.toml is no schedule: "),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(tmp_path, said, message):
    """The file is there to be edited, so it will be edited wrongly."""
    with pytest.raises(UsageError, match=message):
        load(saved(tmp_path, **said))


def test_a_file_that_is_none(tmp_path):
    """Missing, a folder, and no text at all."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, message in (
        ("missing", "cannot be read: No such file"),
        (".", "cannot be read: "),
        ("binary", "is no schedule"),
    ):
        with pytest.raises(UsageError, match=message):
            load(tmp_path / name)
