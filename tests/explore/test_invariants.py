"""For each invariant a run made by hand that breaks only that one, and its like that breaks none."""

from dataclasses import replace

import pytest

from session_fix.events import Recorder
from session_fix.explore.clients import Told
from session_fix.explore.invariants import CHECKS, violations
from session_fix.explore.runs import Contents, Run, texts
from session_fix.explore.schedules import Point, Waiting
from session_fix.explore.workloads import BY_NAME, CLEANUP, CREATE, DELETE, QUERY, READ, Client, Workload

ID, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
I1, I2 = "aaaaaaaa-1111-4111-8111-111111111111", "aaaaaaaa-2222-4222-8222-222222222222"
DONE, REFUSED = Told(CREATE, done=True, value=ID), Told(QUERY, done=False, error="23505")
CREATED = (ID, None)
CREATES, QUERIES, READS = (BY_NAME[f"{name}"] for name in ("create-create", "query-query", "query-reader"))
DELETES, CLEANS = BY_NAME["query-query-delete"], BY_NAME["query-cleanup"]


def asked(client):
    """Return what a client is told whose query was answered."""
    return Told(QUERY, done=True, value=texts(client).response)


def stored(client, id_=None, **other):
    """Return the row of a client's interaction."""
    row = {"session": ID, "prompt": texts(client).prompt, "response": texts(client).response} | other
    return (id_ or (I1, I2)[client], *row.values())


def read(*ids):
    """Return what a reader is told."""
    return Told(READ, done=True, value=list(ids))


def run(*told, sessions=(CREATED,), interactions=(), **other):
    """Return a run: what each client was told, and what is stored."""
    each = tuple(one if isinstance(one, tuple) else (one,) for one in told)
    return Run(0, ID, (), each, Contents(tuple(sessions), tuple(interactions)), (), **other)


BOTH = {"interactions": (stored(0), stored(1))}
DELETED, REMOVED = Told(DELETE, done=True, value=1), Told(CLEANUP, done=True, value=[ID])
NOT_REMOVED = Told(CLEANUP, done=True, value=[])
GOOD = {
    "two create": (CREATES, run(DONE, DONE)),
    "two ask": (QUERIES, run(asked(0), asked(1), **BOTH)),
    "a session that was deleted before it was used": (DELETES, run(asked(0), asked(1), DELETED, **BOTH)),
    "a session created, then deleted": (
        Workload("mine", (Client((CREATE,)), Client((DELETE,)))),
        run(DONE, DELETED, sessions=()),
    ),
    "a session created, then cleaned up": (
        Workload("mine", (Client((CREATE,)), Client((CLEANUP,)))),
        run(DONE, REMOVED, sessions=()),
    ),
    "a session cleaned up before it was used": (CLEANS, run(asked(0), REMOVED, interactions=[stored(0)])),
    "a session that could be used afterwards": (
        CLEANS,
        run(asked(0), NOT_REMOVED, interactions=[stored(0)], healed=asked(2)),
    ),
    "an operator who is refused": (
        DELETES,
        run(asked(0), asked(1), Told(DELETE, done=False, error="23503"), **BOTH),
    ),
    "a reader": (READS, run(asked(0), (read(), read(I1), read(I1)), interactions=[stored(0)])),
    "a reader who is refused": (
        READS,
        run(asked(0), (Told(READ, done=False, error="42501"),) * 5, interactions=[stored(0)]),
    ),
    "another version beside it": (
        BY_NAME["query-query-versions"],
        run(asked(0), REFUSED, sessions=[CREATED, (OTHER, None)], interactions=[stored(0)]),
    ),
    "a process that was killed": (
        BY_NAME["query-query-killed"],
        run(asked(0), replace(REFUSED, error="HTTP None"), interactions=[stored(0)]),
    ),
    "a migration": (BY_NAME["query-query-migration"], run(asked(0), asked(1), (), **BOTH, migrated=True)),
}
BAD = {
    "I1": {
        "an answer, and nothing stored": (QUERIES, run(asked(0), asked(1), interactions=[stored(0)])),
        "a session that is not there": (CREATES, run(DONE, DONE, sessions=())),
        "a session that nobody removed": (
            Workload("mine", (Client((CREATE,)), Client((CLEANUP,)))),
            run(DONE, NOT_REMOVED, sessions=()),
        ),
    },
    "I2": {"a second session": (CREATES, run(DONE, DONE, sessions=[CREATED, (OTHER, None)]))},
    "I3": {
        "an interaction twice": (QUERIES, run(asked(0), asked(1), interactions=[*BOTH["interactions"], stored(0, I2)]))
    },
    "I4": {
        "an interaction without its session": (QUERIES, run(asked(0), asked(1), sessions=(), **BOTH)),
    },
    "I5": {
        "whoever asks is refused": (QUERIES, run(asked(0), REFUSED, interactions=[stored(0)])),
        "whoever creates is refused": (CREATES, run(DONE, replace(DONE, done=False, error="23505"))),
    },
    "I6": {
        "the response of another": (
            QUERIES,
            run(asked(0), asked(1), interactions=[stored(0, response=texts(1).response), stored(1)]),
        ),
        "the session of another": (
            BY_NAME["query-query-versions"],
            run(asked(0), REFUSED, sessions=[CREATED, (OTHER, None)], interactions=[stored(0, session=OTHER)]),
        ),
    },
    "I7": {
        "a session that cannot be used again": (
            DELETES,
            run(asked(0), asked(1), DELETED, **BOTH, healed=replace(REFUSED, error="not stored")),
        ),
    },
    "I9": {
        "a migration that ended half-way": (
            BY_NAME["query-query-migration"],
            run(asked(0), asked(1), (), **BOTH, migrated=False),
        ),
    },
    "I12": {
        "an interaction that vanishes": (READS, run(asked(0), (read(I1), read()), interactions=[stored(0)])),
        "an interaction that is gone in the end": (READS, run(asked(0), (read(I1),), interactions=[stored(0, I2)])),
        "one that comes before those read": (
            READS,
            run(asked(0), (read(I1), read(I2, I1)), interactions=[stored(0), stored(1)]),
        ),
        "an interaction twice at once": (
            READS,
            run(asked(0), (read(I1, I1), read(I1, I1, I2)), interactions=[stored(0), stored(1)]),
        ),
    },
}


def broken(workload, performed):
    """Return the numbers of the invariants that a run breaks."""
    return {violation.invariant.split()[0] for violation in violations(workload, performed)}


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_a_good_run_breaks_nothing(case):
    """A false alarm costs more trust than a missed one."""
    assert violations(*case) == []


@pytest.mark.parametrize(
    ("number", "case"), [pytest.param(n, c, id=f"{n} {name}") for n, some in BAD.items() for name, c in some.items()]
)
def test_a_bad_run_breaks_one_invariant(number, case):
    """An invariant that cannot be broken says nothing, and one that breaks with others explains nothing."""
    assert broken(*case) == {number}


def test_a_cleanup_under_somebody_is_named_as_well():
    """What was acknowledged is lost whoever took it; I8 says that it was the cleanup."""
    performed = run(asked(0), REMOVED, sessions=())
    assert broken(CLEANS, performed) == {"I1", "I8"}
    assert "I8" not in broken(CLEANS, replace(performed, told=((asked(0),), (NOT_REMOVED,))))


def test_every_invariant_has_a_run_that_breaks_it():
    """A check without its mutant might as well not be there."""
    assert {name.split()[0] for name in CHECKS} == set(BAD) | {"I8"}


def test_a_refused_call_behind_an_error_is_named():
    """A caller sees a status; whoever mends the service wants the SQLSTATE that led to it."""
    recorder = Recorder()
    for sqlstate in (None, "23505", "23503"):
        recorder.record("reply", "tap", sqlstate=sqlstate)
    points = tuple(Point(chosen, {chosen: Waiting("", ())}) for chosen in (0, 1, 0))
    told = (replace(REFUSED, error="HTTP 500"),), (asked(1),)
    performed = replace(run(*told, interactions=[stored(1)]), points=points, events=tuple(recorder.events()))
    assert [one.summary for one in violations(QUERIES, performed)] == ["A's query ended with HTTP 500 after 23503"]
