"""On the real stack: pruning loses nothing, a seed gives one history, and PostgreSQL's own tool sees the same."""

import itertools
import json
import re

import pytest

from session_fix.errors import EnvironmentUnavailableError
from session_fix.events import UUID
from session_fix.explore import isolationtester
from session_fix.explore.isolationtester import run
from session_fix.explore.runs import Performer
from session_fix.explore.spec import OK, Spec, call, look, outcomes

pytestmark = pytest.mark.usefixtures("variant")

CHANCE = frozenset({"seq", "t_us", "run", "duration_us", "thread", "at_ns"})  # differs from run to run
EMPTY = "DELETE FROM ai_interactions; DELETE FROM ai_sessions;"
INSERT = "INSERT INTO ai_sessions (id) VALUES ('11111111-1111-1111-1111-111111111111')"
LOG = """INSERT INTO ai_interactions (id, session_id, prompt, response)
VALUES (gen_random_uuid(), '11111111-1111-1111-1111-111111111111', 'p', 'r')"""
LOOK = "SELECT FROM ai_sessions WHERE id = '11111111-1111-1111-1111-111111111111'"
TOUCH = "UPDATE ai_sessions SET updated_at = now() WHERE id = '11111111-1111-1111-1111-111111111111'"
PAIRS = ["create-create", "create-query", "query-query", "query-cleanup", "query-reader"]


@pytest.mark.parametrize("variant", ["documented", "fixed"], indirect=True)
@pytest.mark.parametrize("workload", PAIRS)
def test_pruned_or_not_the_same_comes_of_it(explore, workload, variant):
    """The proof where it counts: what a call touches was read from the request, and judged by the real database."""
    layer = "database" if workload == "create-create" else "logger"
    pruned, every = (explore(workload, layer=layer, keep_going=True, prune=prune) for prune in (True, False))
    assert pruned.complete
    assert every.complete
    assert pruned.orders == every.orders == every.runs
    assert pruned.outcomes == every.outcomes
    holds = variant == "fixed" or workload == "query-reader"
    assert pruned.verdict == every.verdict == ("pass" if holds else "fail")


def documented(client, *, asks):
    """Return the steps of the documented fix."""
    steps = [
        look(f"{client}look", LOOK),
        call(f"{client}insert", INSERT, unless_found=True),
    ]
    return [*steps, call(f"{client}log", LOG), call(f"{client}touch", TOUCH)] if asks else steps


def fixed(client, *, asks):
    """Return the steps of the fix that ships."""
    steps = [call(f"{client}insert", f"{INSERT} ON CONFLICT (id) DO NOTHING")]
    return [*steps, call(f"{client}log", LOG)] if asks else steps


def refused_by_isolationtester(steps, database, *, asks):
    """Return what each client is refused with, over all orders."""
    text = Spec(sessions={client: steps(client, asks=asks) for client in ("c0", "c1")}, teardown=EMPTY).text
    found = set()
    for _, came in outcomes(run(text, database.params)):
        codes = [{came[step] for step in came if step.startswith(client)} - {OK, "skipped"} for client in ("c0", "c1")]
        found.add(tuple("".join(sorted(one)) for one in codes))
    return found


@pytest.mark.parametrize("variant", ["documented", "fixed"], indirect=True)
@pytest.mark.parametrize("workload", ["create-create", "query-query"])
def test_isolationtester_sees_the_same(explore, database, workload, variant):
    """Who fails with which SQLSTATE, by two ways that share nothing but the server."""
    try:
        isolationtester.find()
    except EnvironmentUnavailableError as error:
        pytest.skip(str(error))
    steps = {"documented": documented, "fixed": fixed}[variant]
    expected = refused_by_isolationtester(steps, database, asks=workload == "query-query")
    layer = "database" if workload == "create-create" else "logger"
    found = explore(workload, layer=layer, keep_going=True)
    told = [clients for clients, *_ in found.outcomes]
    assert {tuple(error for ((*_, error),) in clients) for clients in told} == expected
    assert expected == ({("", ""), ("", "23505"), ("23505", "")} if variant == "documented" else {("", "")})


def history(run):
    """Return a run's events without what differs by chance: ids are named in the order in which they appear."""
    names, numbers = {}, itertools.count(1)

    def named(match):
        return names.setdefault(match[0].lower(), f"id {next(numbers)}")

    events = [{key: value for key, value in event.as_json("").items() if key not in CHANCE} for event in run.events]
    return UUID.sub(named, json.dumps(events))


@pytest.fixture
def performed(monkeypatch):
    """Return the runs that are performed in this test."""
    runs, perform = [], Performer.perform

    def recorded(*arguments):
        runs.append(perform(*arguments))
        return runs[-1]

    monkeypatch.setattr(Performer, "perform", recorded)
    return runs


def explored(explore, performed, workload, **options):
    """Return the histories of the runs of one exploration, and their sessions."""
    performed.clear()
    explore(workload, keep_going=True, **options)
    return [history(one) for one in performed], [one.session_id for one in performed]


@pytest.mark.parametrize("variant", ["documented"], indirect=True)
def test_one_seed_gives_one_history(explore, performed):
    """A hundred runs of a hundred: what was found is found again."""
    first, sessions = explored(explore, performed, "create-create", prune=False)
    assert len(set(first)) == len(first) == 6
    assert re.search(r'"sqlstate": "23505"', "".join(first))
    repeated = [explored(explore, performed, "create-create", prune=False) for _ in range(16)]
    assert repeated == [(first, sessions)] * 16
    assert 6 * len(repeated) + 6 >= 100


@pytest.mark.parametrize("variant", ["documented"], indirect=True)
def test_another_seed_gives_other_ids_and_the_same_orders(explore, performed):
    """All orders are all orders; a sample has others."""
    (first, sessions), (second, others) = (explored(explore, performed, "create-create", seed=seed) for seed in (1, 2))
    assert first == second
    assert not set(sessions) & set(others)
    one, other = (explored(explore, performed, "query-query-query", seed=seed, budget=6)[0] for seed in (1, 2))
    assert one != other


@pytest.mark.parametrize("variant", ["fixed"], indirect=True)
def test_no_false_alarm_in_two_hundred_runs(explore):
    """What is healthy is called healthy, in every order and every time."""
    runs = 0
    for workload, options in [
        ("query-query", {"layer": "api"}),
        ("query-query", {"layer": "logger"}),
        ("query-query", {"layer": "database"}),
        ("create-query", {}),
        ("create-create", {}),
        ("create-query-query", {"budget": 60}),
        ("query-query-delete", {"budget": 30, "layer": "logger"}),
        ("query-query-query", {"budget": 120, "layer": "logger"}),
    ]:
        found = explore(workload, prune=False, keep_going=True, **options)
        assert (found.verdict, found.failed, found.problem) == ("pass", 0, "")
        runs += found.runs
    assert runs >= 200
