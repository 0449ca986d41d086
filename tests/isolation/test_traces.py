"""The judgement of what was read: every difference is said, and nothing else."""

from dataclasses import replace

import pytest

from session_fix.isolation.facts import Facts, Layout, Session, Table
from session_fix.isolation.traces import CLIENT, dirty, of_facts, of_sessions

LAYOUT = Layout(("pg_catalog.pg_class",), "1259", ("public.a", "public.v"), frozenset({"public.v"}), ("public.s",))
BEFORE = Facts(Table(100, 0), 0, (Table(2, 0), Table(1, 0)), ("1 false",), "(10,f,t,-1)", "")
CHANGES = {
    "catalog row written": ({"catalog": Table(100, 1)}, ["a change of the catalog"]),
    "catalog row gone": ({"catalog": Table(99, 0)}, ["a change of the catalog"]),
    "catalog row more": ({"catalog": Table(101, 0)}, ["a change of the catalog"]),
    "sequence moved": ({"sequences": ("7 true",)}, ["the sequence public.s at 7"]),
    "sequence used, at the same value": ({"sequences": ("1 true",)}, ["the sequence public.s at 1"]),
    "materialized view": ({"tables": (Table(2, 0), Table(1, 1))}, ["the materialized view public.v refreshed"]),
    "advisory locks": ({"advisory_locks": 2}, ["2 advisory lock(s)"]),
    "settings": ({"settings": "(10,f,t,7)"}, ["a setting, comment, owner, slot or subscription"]),
    "rows only": ({"tables": (Table(5, 4), Table(1, 0))}, []),
    "nothing": ({}, []),
    "two at once": ({"sequences": ("2 true",), "advisory_locks": 1}, ["the sequence public.s", "1 advisory lock"]),
    "names may be wrong by now": ({"catalog": Table(99, 1), "sequences": ()}, ["a change of the catalog"]),
}


@pytest.mark.parametrize(("change", "traces"), CHANGES.values(), ids=CHANGES)
def test_each_difference_is_said(change, traces):
    """One that is not seen is the next test's riddle; one that is none costs a clone."""
    found = of_facts(BEFORE, replace(BEFORE, **change), LAYOUT)
    assert len(found) == len(traces)
    assert all(trace.startswith(words) for trace, words in zip(found, traces, strict=True)), found


@pytest.mark.parametrize(
    ("found", "gone"),
    [
        pytest.param(Table(3, 1), False, id="inserted"),
        pytest.param(Table(1, 0), True, id="deleted"),
        pytest.param(Table(2, 1), True, id="updated, or deleted and inserted"),
        pytest.param(Table(3, 2), True, id="updated and inserted"),
        pytest.param(Table(0, 0), True, id="emptied"),
        pytest.param(Table(5, 5), True, id="replaced by more"),
    ],
)
def test_a_table_is_dirty_when_rows_came_or_went(found, gone):
    """Where a row of the state went, more has to be done than to delete."""
    after = replace(BEFORE, tables=(found, Table(1, 0)))
    assert dirty(BEFORE, after.tables, LAYOUT) == [("public.a", found.written, gone)]


def test_an_untouched_table_is_not_dirty():
    """To empty it would cost time for nothing."""
    assert dirty(BEFORE, BEFORE.tables, LAYOUT) == []


SESSIONS = {
    "a test's": (Session(7, "postgres", "idle", CLIENT), ["an open connection of postgres (idle)"]),
    "a starting one": (Session(7, "", "", CLIENT), ["an open connection of  (starting)"]),
    "the data API's, idle": (Session(7, "rest", "idle", CLIENT), []),
    "the data API's, active": (
        Session(7, "rest", "active", CLIENT),
        ["a request of the data API that is still active"],
    ),
    "the data API's, starting": (Session(7, "rest", "", CLIENT), ["a request of the data API that is still "]),
    "ours": (Session(1, "postgres", "idle", CLIENT), []),
    "a worker": (Session(7, "", "", "logical replication worker"), ["a logical replication worker"]),
}


@pytest.mark.parametrize(("session", "traces"), SESSIONS.values(), ids=SESSIONS)
def test_each_connection_is_judged_by_whose_it_is(session, traces):
    """Ours and an idle data API's are there in every test."""
    assert of_sessions([session], [], ours=frozenset({1}), rest="rest") == traces


def test_without_a_data_api_a_nameless_session_is_not_taken_for_its_own():
    """Its role is "" then, and so is that of a connection that has just begun."""
    assert of_sessions([Session(7, "", "idle", CLIENT)], [], ours=frozenset(), rest="") != []


def test_prepared_transactions_are_said_by_name():
    """The name leads to the test's line."""
    found = of_sessions([], ["it's"], ours=frozenset(), rest="")
    assert found == ['the prepared transaction "it\'s"']
