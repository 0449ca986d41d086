"""Milliseconds for one test that stores a session and its interaction, and commits.

From the beginning of a test's setup to the end of its teardown, pytest's own share included: "no database" is that
share. The first and the last test of each run are not counted, since servers start and end in them. "per test, all" is
the whole run divided by its tests, with the start and end of servers and what goes on in the background.
"connect" stores nothing, and "rollback" never commits.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.figures import BOTH, INSTALLED, TUNED, Row
from benchmarks.runs import Contender, Run, Sizes, interleave, rows, run_pytest, together
from session_fix import schema
from session_fix.servers import embedded

NAME = "per_test"
RECYCLED, CLONED, ROLLBACK = "session-fix, recycled", "session-fix, cloned", "rollback of one connection"
PEER, EACH = "pytest-postgresql, from its template", "testcontainers, a container a test"


def ours(name: str, isolation: str) -> Contender:
    """Return ourselves, with one way to keep tests apart."""
    options = ("--session-fix-isolation", isolation)
    return Contender(name, BOTH, plugin="session_fix.pytest_plugin", options=options)


PEERS = [
    Contender(
        PEER,
        TUNED,
        fixture="peer",
        plugin="pytest_postgresql.plugin",
        needs="pytest_postgresql",
        refuses_root=True,
    ),
    Contender("testcontainers, CREATE DATABASE a test", TUNED, fixture="container_database", needs="docker"),
    Contender(EACH, TUNED, fixture="container_each", needs="docker"),
]
CONTENDERS = [
    Contender("no database", TUNED, test="test_stores.py::test_empty"),
    Contender("connect", TUNED, fixture="connect", test="test_stores.py::test_connects"),
    Contender(ROLLBACK, TUNED, fixture="rollback"),
    Contender("DELETE", TUNED, fixture="delete"),
    Contender("TRUNCATE", TUNED, fixture="truncate"),
    ours(RECYCLED, "recycle"),
    ours(CLONED, "clone"),
    *PEERS,
    *(replace(peer, setting=INSTALLED) for peer in PEERS),
]
# A run of these takes a second, and two runs of one differ by more than two tests of a run.
QUICK = [one for one in CONTENDERS if not one.needs and one.name != CLONED]


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each contender."""
    with ExitStack() as running:
        server, _ = running.enter_context(embedded.start())
        params = server.admin | {"dbname": "benchmark"}
        with psycopg.connect(make_conninfo(**server.admin, dbname="postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE benchmark")
        schema.migrate(params)

        def run(contender: Contender) -> Run:
            tests = sizes.tests_on_disk if contender.setting == INSTALLED else sizes.tests
            tests = sizes.tests_with_a_container if contender.name == EACH else tests
            return run_pytest(contender, tests=tests + 2, dsn=make_conninfo(**params))

        measures = {one.key: lambda one=one: run(one) for one in CONTENDERS}
        found = interleave(measures, sizes.rounds)
        again = interleave({one.key: measures[one.key] for one in QUICK}, sizes.more_rounds)
    return rows(
        NAME,
        found | {key: together(found[key], again[key]) for key in again},
        lambda runs: [took_ms for run in runs for took_ms in run.tests_ms[1:-1]],
        lambda runs: {"per test, all": sum(run.loop_ms for run in runs) / sum(len(run.tests_ms) for run in runs)},
    )
