"""isolationtester is found, performs what it is given, ends in time, and notices a fix that was taken out."""

import itertools
import re
from pathlib import Path

import psycopg
import pytest

from session_fix import folders
from session_fix.errors import EnvironmentUnavailableError, ProcessEndedError
from session_fix.explore import isolationtester
from session_fix.explore.isolationtester import difference, run
from session_fix.explore.spec import CANCELED, OK, SKIPPED, Spec, call, look, outcomes
from session_fix.servers import embedded

SPECS = folders.bundled("scenarios") / "isolation"
CLEANUP = "cleanup_lock_then_recheck_cascading"
EMPTY = "DELETE FROM ai_interactions; DELETE FROM ai_sessions;"
LOOK = "SELECT FROM ai_sessions WHERE id = '11111111-1111-1111-1111-111111111111'"
INSERT = "INSERT INTO ai_sessions (id) VALUES ('11111111-1111-1111-1111-111111111111')"
LOG = """INSERT INTO ai_interactions (id, session_id, prompt, response)
VALUES (gen_random_uuid(), '11111111-1111-1111-1111-111111111111', 'hello', 'hi')"""
TOUCH = "UPDATE ai_sessions SET updated_at = now() WHERE id = '11111111-1111-1111-1111-111111111111'"
KEY_TAKEN = "23505"  # Source: PostgreSQL manual, appendix "Error Codes"
WAITS_FOR_ITSELF = Spec(
    sessions={"s1": [("s1lock", "LOCK ai_sessions;")], "s2": [("s2lock", "LOCK ai_sessions;"), ("s2end", "COMMIT;")]},
    session_setup="BEGIN;",
    permutations=[["s1lock", "s2lock", "s2end"]],
).text


@pytest.fixture
def params(database):
    """Return a private database's parameters; skip where there is no isolationtester."""
    try:
        isolationtester.find()
    except EnvironmentUnavailableError as error:
        pytest.skip(str(error))
    return database.params


def spec(name):
    """Return the text of a spec that ships."""
    return (SPECS / f"{name}.spec").read_text()


def without(part, text):
    """Return a spec without that part of its SQL."""
    assert part in text
    return text.replace(part, "")


def in_one_order(text, *steps):
    """Return a spec with that order only."""
    return re.sub("(?m)^permutation .*\n", "", text) + f"permutation {' '.join(steps)}\n"


def unexpected(name, printed):
    """Return how an output differs from what is expected of a spec that ships, at READ COMMITTED."""
    return difference(printed, {name: (SPECS / "expected" / "read_committed" / f"{name}.out").read_text()})


def documented(client):
    """Return the calls of one query as the documented fix makes them."""
    session = [look(f"{client}look", LOOK), call(f"{client}insert", INSERT, unless_found=True)]
    return [*session, call(f"{client}log", LOG), call(f"{client}touch", TOUCH)]


def fixed(client):
    """Return the calls of one query as the fix makes them that ships, and a touch."""
    session = call(f"{client}insert", f"{INSERT} ON CONFLICT (id) DO NOTHING")
    return [session, call(f"{client}log", LOG), call(f"{client}touch", TOUCH)]


def left(printed):
    """Return what the last step found: the numbers of sessions and interactions that are left."""
    return tuple(map(int, re.findall(r"(?m)^ +(\d+)\| +(\d+)$", printed)[-1]))


def two_queries(query):
    """Return the spec of two clients that ask in one new session, in every order of their calls."""
    return Spec(sessions={client: query(client) for client in ("c1", "c2")}, teardown=EMPTY).text


def test_no_binary(monkeypatch):
    """Whoever has none is told every place that was looked at."""
    monkeypatch.setattr(embedded, "INSTALLS", {"16": "pginstall", "18": "nowhere"})
    monkeypatch.setattr(isolationtester, "PROGRAM", Path("lib/isolationtester"))
    with pytest.raises(EnvironmentUnavailableError, match=r"(?s)18: .*nowhere.* 16: .*pginstall/lib/isolationtester"):
        isolationtester.find()


def test_nothing_is_shown_to_others(monkeypatch, tmp_path):
    """Every user of a machine sees the arguments of its processes."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "arguments: $*"\nenv | grep ^PG | LC_ALL=C sort\n')
    program.chmod(0o755)
    monkeypatch.setattr(isolationtester, "find", lambda: program)
    printed = run("", {"password": "s3cret", "options": "-c jit=off"}, level="repeatable read", step_timeout_s=8)
    assert printed.splitlines() == [
        "arguments: ",
        r"PGOPTIONS=-c jit=off -c default_transaction_isolation=repeatable\ read",
        "PGPASSWORD=s3cret",
        "PG_TEST_TIMEOUT_DEFAULT=4",
    ]


@pytest.mark.parametrize("level", isolationtester.LEVELS)
def test_transactions_have_the_level_asked_for(params, level):
    """A spec begins them with a plain BEGIN."""
    assert f"\n{level}" in run("session s1 step show { SHOW transaction_isolation; }", params, level=level)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("session s1 step { SELECT 1; }", "syntax error"),
        ("setup { SELECT 1/0; } session s1 step s1a { SELECT 1; }", "division by zero"),
        ("teardown { SELECT 1/0; } session s1 step s1a { SELECT 1; }", "division by zero"),
    ],
)
def test_a_spec_that_is_wrong(params, text, said):
    """A quiet end over a spec that was not performed, or left rows, would be taken for a result."""
    with pytest.raises(ProcessEndedError, match=said):
        run(text, params)


def test_an_order_that_cannot_happen_is_given_up(params):
    """The second lock waits for a COMMIT that its own order puts after it."""
    ((_, steps),) = outcomes(run(WAITS_FOR_ITSELF, params, step_timeout_s=2))
    assert steps == {"s1lock": OK, "s2lock": CANCELED, "s2end": OK}


def test_it_ends_in_time(params, database, eventually):
    """Whatever a spec does, a run of tests goes on; and nobody stays connected."""
    with pytest.raises(ProcessEndedError, match=r"(?s)had not finished after 0.3 s"):
        run(WAITS_FOR_ITSELF, params, timeout_s=0.3)
    of_the_spec = "datname = current_database() AND application_name LIKE '/%'"  # a slash and the session's name
    assert eventually(lambda: database.rows(f"SELECT FROM pg_stat_activity WHERE {of_the_spec}") == [])


@pytest.mark.parametrize(
    "statement", [LOG, "INSERT INTO ai_sessions (id) VALUES (NULL)", "SELECT 'no uuid'::uuid", TOUCH]
)
def test_a_call_comes_to_what_its_statement_comes_to(params, database, statement):
    """A step by ``call`` stands for a statement that is its own transaction, and tells its SQLSTATE as psycopg does."""
    try:
        database.rows(statement)
        alone = OK
    except psycopg.Error as error:
        alone = error.sqlstate
    step = call("only", statement.replace("SELECT", "PERFORM"))
    assert outcomes(run(Spec(sessions={"c1": [step]}).text, params)) == [(("only",), {"only": alone})]


def test_two_queries_as_documented_race_in_forty_orders_of_seventy(params):
    """Through the data API each call is a transaction of its own: nobody waits, and who comes second is refused."""
    found = outcomes(run(two_queries(documented), params))
    refused = [steps for _, steps in found if KEY_TAKEN in steps.values()]
    assert (len(found), len(refused)) == (70, 40)
    for steps in refused:
        loser = next(name[:2] for name, outcome in steps.items() if outcome == KEY_TAKEN)
        assert [steps[f"{loser}{word}"] for word in ("look", "log", "touch")] == [OK, SKIPPED, SKIPPED]


def test_two_queries_of_the_fix_hold_in_every_order(params):
    """The fix makes one call less, so there are fewer orders; each of them must have been performed."""
    found = outcomes(run(two_queries(fixed), params))
    names = [("c1insert", "c1log", "c1touch"), ("c2insert", "c2log", "c2touch")]
    orders = {
        tuple(next(turns[turn]) for turn in order)
        for order in set(itertools.permutations((0, 0, 0, 1, 1, 1)))
        for turns in [[iter(names[0]), iter(names[1])]]
    }
    assert {permutation for permutation, _ in found} == orders
    assert {outcome for _, steps in found for outcome in steps.values()} == {OK}


def test_without_on_conflict_the_second_insert_breaks_the_key(params):
    """Mutant: the fix without what makes it one."""
    mutant = without(" ON CONFLICT (id) DO NOTHING", spec("insert_on_conflict"))
    found = unexpected("insert_on_conflict", run(mutant, params))
    assert re.search(r"(?m)^\+ERROR:.*\"ai_sessions_pkey\"", found)


def test_without_the_lock_a_cleanup_loses_an_interaction(params):
    """Mutant: looking twice, but with nothing held in between; an acknowledged interaction goes with its session."""
    mutant = without("FOR UPDATE", spec(CLEANUP))
    printed = run(in_one_order(mutant, "lock", "log", "clean", "logged", "cleaned", "rows"), params)
    ((_, steps),) = outcomes(printed)
    assert (set(steps.values()), left(printed)) == ({OK}, (0, 0))
    found = unexpected(CLEANUP, run(mutant, params, step_timeout_s=2))  # what the lock forbids takes its place
    assert "canceling step clean" in found


def test_without_the_second_look_a_cleanup_loses_an_interaction(params):
    """Mutant: what was empty when it was looked at is deleted for that reason alone."""
    recheck = "    AND NOT EXISTS (SELECT FROM cascading_interactions WHERE session_id = s.id)"
    found = unexpected(CLEANUP, run(without(recheck, spec(CLEANUP)), params))
    assert re.search(r"(?m)^- +1\| +1\n\+ +0\| +0$", found)


def test_a_difference_is_from_the_nearest_alternative():
    """Whoever reads it wants to see what is new, not all that could have been."""
    assert not difference("a\nb\n", {"one.out": "a\n", "one_1.out": "a\nb\n"})
    assert difference("a\nb\nc\n", {"one.out": "z\n", "one_1.out": "a\nb\n"}).splitlines()[-1] == "+c"
    with pytest.raises(ValueError, match="nothing to compare"):
        difference("a\n", {})


def test_every_expected_output_belongs_to_a_spec():
    """A spec that goes leaves nothing behind that looks like a promise."""
    specs = {path.stem for path in SPECS.glob("*.spec")}
    assert specs
    for level in isolationtester.LEVELS:
        files = (SPECS / "expected" / level.replace(" ", "_")).iterdir()
        assert {re.sub(r"_\d$", "", path.stem) for path in files} == specs
