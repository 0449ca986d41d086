"""The lines about private databases at the end of a run: what became of them, and why, most frequent first."""

import pytest

from session_fix.isolation import summary


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({}, ""),
        ({"recycled": 1200}, "1,200 emptied for a later test"),
        ({"dropped": 3}, "3 dropped as clones of one test"),
        (
            {"recycled": 4, "dropped": 3, "dropped: DDL": 2, "dropped: a lock": 1},
            "4 emptied for a later test, 3 dropped for what was found in them, 3 dropped as clones of one test",
        ),
    ],
)
def test_the_total_counts_each_database_once(ended, said):
    """What was dropped as asked is no finding."""
    assert summary.total(ended) == said


def test_reasons_are_counted_and_mishaps_named():
    """Whoever wants a faster run looks for the first line, whoever owns the server for the last."""
    ended = {"recycled": 4, "dropped": 3, "dropped: a lock": 1, "dropped: DDL": 20}
    assert list(summary.details(ended, ["sf_1: in use"])) == [
        "    20  DDL",
        "     1  a lock",
        "dropping went wrong: sf_1: in use",
    ]


def test_many_reasons_are_not_all_listed():
    """Each sequence and thread has a name of its own; the end of a run is no place for all of them."""
    ended = {f"dropped: the sequence s{number}": 10 - number for number in range(8)}
    *first, last = summary.details(ended, [])
    assert [line.split()[-1] for line in first] == [f"s{number}" for number in range(5)]
    assert last == f"{5 + 4 + 3:6}  for 3 other reasons"


def test_nothing_is_said_of_nothing():
    """A run whose tests want no database is not told of databases."""
    assert list(summary.details({}, [])) == []
