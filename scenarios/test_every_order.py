"""Every order of the calls that concurrent clients of one session make: the systematic half of the stress.

What each workload is, and what must hold in it, stands in docs/explore.md. Where there are too many orders for all of
them, a sample is run.
"""

import pytest

FAIL, PASS = "fail", "pass"
line = "every order: "


def verdict_of(explore, workload, **options):
    """Explore a workload; one that passes has covered every order."""
    found = explore(workload, **options)
    assert found.verdict != PASS or found.complete or found.workload.sampled
    return found.verdict, broken_by(found)


def broken_by(found):
    """Return the invariants that a counterexample breaks."""
    violations = found.counterexample.violations if found.counterexample else ()
    return sorted({violation.invariant.split()[0] for violation in violations})


HOLDS = (PASS, [])
LOST = (FAIL, ["I2", "I5"])  # the broken service stores phantoms, and its caller gets an error
RACES = (FAIL, ["I5"])


@pytest.mark.session_fix(line + "two create a session", before=LOST, documented=RACES, otherwise=HOLDS)
@pytest.mark.parametrize("workload", ["create-create", "create-create-processes"])
def test_two_create_a_session(explore, workload, expected):
    """Who looks first and inserts then is overtaken between the two."""
    assert verdict_of(explore, workload) == expected


@pytest.mark.session_fix(line + "one creates it, one asks in it", before=LOST, documented=RACES, otherwise=HOLDS)
def test_one_creates_it_and_one_asks(explore, expected):
    """The frontend need not wait for the answer to its first request."""
    assert verdict_of(explore, "create-query") == expected


@pytest.mark.session_fix(line + "two ask in a new session", before=LOST, documented=RACES, otherwise=HOLDS)
@pytest.mark.parametrize("workload", ["query-query", "query-query-processes"])
def test_two_ask_in_a_new_session(explore, workload, expected):
    """Two browser tabs, or one request that was sent twice."""
    assert verdict_of(explore, workload) == expected


@pytest.mark.session_fix(line + "two ask, at the other layers", before=LOST, documented=RACES, otherwise=HOLDS)
@pytest.mark.parametrize("layer", ["logger", "database"])
def test_two_ask_at_the_other_layers(explore, layer, expected):
    """What holds behind HTTP holds for whoever calls the functions."""
    assert verdict_of(explore, "query-query", layer=layer) == expected


@pytest.mark.session_fix(line + "one creates it, two ask in it", before=LOST, documented=RACES, otherwise=HOLDS)
def test_one_creates_it_and_two_ask(explore, expected):
    """Three at once."""
    assert verdict_of(explore, "create-query-query") == expected


@pytest.mark.session_fix(
    line + "two ask, and it is deleted", before=(FAIL, ["I2", "I5", "I7"]), documented=RACES, otherwise=HOLDS
)
def test_two_ask_while_it_is_deleted(explore, expected):
    """Whoever made sure of the session finds it gone when the interaction is inserted."""
    assert verdict_of(explore, "query-query-delete") == expected


@pytest.mark.session_fix(
    line + "one asks, and empty sessions are removed", before=(FAIL, ["I2"]), documented=RACES, otherwise=HOLDS
)
def test_one_asks_while_empty_sessions_are_removed(explore, expected):
    """The session is old and empty just before it is used."""
    assert verdict_of(explore, "query-cleanup") == expected


@pytest.mark.session_fix(line + "one asks, one reads along", before=LOST, documented=HOLDS, otherwise=HOLDS)
def test_one_asks_while_another_reads(explore, expected):
    """A list of a session's interactions only grows."""
    assert verdict_of(explore, "query-reader") == expected


@pytest.mark.session_fix(line + "beside an older version", before=RACES, documented=RACES, otherwise=HOLDS)
def test_beside_an_older_version(explore, expected):
    """During a rollout both versions run; the new one must hold whatever the old one does."""
    assert verdict_of(explore, "query-query-versions") == expected


@pytest.mark.session_fix(
    line + "one process is killed at every call",
    before=(FAIL, ["I2", "I5", "I7"]),
    documented=RACES,
    otherwise=HOLDS,
)
def test_one_process_is_killed_at_every_call(explore, expected):
    """Nothing that has to be right may live in one process only. Each time a process is started anew."""
    assert verdict_of(explore, "query-query-killed") == expected


@pytest.mark.session_fix(
    line + "beside a migration, a sample", before=(FAIL, ["I2"]), documented=RACES, otherwise=HOLDS
)
def test_two_ask_beside_a_migration(explore, expected):
    """The foreign key that is missing is added, orphans get their session, it is validated, an index is built.

    Without the key nobody refuses what the broken service stores; the migration then repairs even that.
    """
    assert verdict_of(explore, "query-query-migration", budget=20) == expected


@pytest.mark.session_fix(line + "three ask, a sample", before=LOST, documented=RACES, otherwise=HOLDS)
def test_three_ask(explore, expected):
    """There are too many orders for each run of the tests."""
    assert verdict_of(explore, "query-query-query", budget=20) == expected
