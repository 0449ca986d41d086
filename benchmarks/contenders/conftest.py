"""The contenders as pytest fixtures, and what times their tests. This folder is copied, and pytest runs in the copy.

``BENCHMARK`` in the environment says as JSON which contender, on what, and where the times go.
"""

import itertools
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from session_fix import schema
from session_fix.servers import UNSAFE_BUT_FAST

ASKED = json.loads(os.environ["BENCHMARK"])
TUNED = [f"{key}={value}" for key, value in UNSAFE_BUT_FAST.items()] if ASKED["tuned"] else []
OPTIONS = [part for setting in TUNED for part in ("-c", setting)]
TIMES = {"tests_ms": [], "measured_ms": {}}


def pytest_generate_tests(metafunc):
    """Repeat the test."""
    metafunc.fixturenames.append("number")
    metafunc.parametrize("number", range(ASKED["tests"]))


@contextmanager
def timed(note):
    """Give ``note`` the milliseconds that the block took."""
    began = time.perf_counter()
    try:
        yield
    finally:
        note((time.perf_counter() - began) * 1000)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol():
    """Time a test from the beginning of its setup to the end of its teardown."""
    with timed(TIMES["tests_ms"].append):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session):
    """Time all tests, with what is started before the first and ended after the last."""
    with timed(lambda took_ms: TIMES.update(loop_ms=took_ms)):
        result = yield
    if not hasattr(session.config, "workerinput"):
        Path(ASKED["result"]).write_text(json.dumps(TIMES))
    return result


@pytest.fixture
def measured():
    """Return a context manager that times its block under a name."""
    return lambda name: timed(lambda took_ms: TIMES["measured_ms"].update({name: took_ms}))


@pytest.fixture
def connect():
    """Open a connection and close it."""
    with psycopg.connect(ASKED["dsn"]) as connection:
        yield connection


class Uncommitted(psycopg.Connection):
    """A connection whose transactions end in the fixture, not in the test."""

    def commit(self):
        """Do nothing."""


@pytest.fixture(scope="session")
def uncommitted():
    """Keep one connection that commits nothing."""
    with Uncommitted.connect(ASKED["dsn"]) as connection:
        yield connection


@pytest.fixture
def rollback(uncommitted):
    """Roll one connection back after each test: the cheapest there is, for tests that never commit."""
    yield uncommitted
    uncommitted.rollback()


@pytest.fixture(scope="session")
def kept():
    """Keep one connection."""
    with psycopg.connect(ASKED["dsn"]) as connection:
        yield connection


@pytest.fixture
def delete(kept):
    """Delete all rows after each test."""
    yield kept
    kept.execute("DELETE FROM ai_interactions")
    kept.execute("DELETE FROM ai_sessions")
    kept.commit()


@pytest.fixture
def truncate(kept):
    """Truncate all tables after each test."""
    yield kept
    kept.execute("TRUNCATE ai_interactions, ai_sessions")
    kept.commit()


if ASKED["contender"] == "peer":
    from pytest_postgresql import factories

    def migrated(*, autocommit=False, **params):  # noqa: ARG001  its loader passes it
        """Give their template our schema."""
        schema.migrate({key: str(value) for key, value in params.items() if value is not None})

    STARTED = {"executable": ASKED["pg_ctl"], "postgres_options": " ".join(OPTIONS)}
    bare_server = factories.postgresql_proc(**STARTED)
    loaded_server = factories.postgresql_proc(**STARTED, load=[migrated])
    peer = factories.postgresql("loaded_server")


def container():
    """Return a container of testcontainers, not yet started."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415  two contenders of many need it

    made = PostgresContainer(ASKED["image"], driver=None)
    if TUNED:
        made.with_env("PGDATA", "/ram/data").with_tmpfs_mount("/ram").with_command(["postgres", *OPTIONS])
    return made


def dsn_of(running):
    """Return how to connect to a running container; texts come as text whatever its encoding is."""
    return make_conninfo(running.get_connection_url(), client_encoding="utf8")


@pytest.fixture(scope="session")
def one_container():
    """Yield a connection to a container's server, and how to make more; the database ``migrated`` has our schema."""
    with container() as running:
        dsn = dsn_of(running)
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("CREATE DATABASE migrated")
            schema.migrate(conninfo_to_dict(dsn, dbname="migrated"))
            yield admin, dsn


NUMBERS = itertools.count()


@pytest.fixture
def container_database(one_container):
    """Make a database in the one container; they all end with it, so that no test pays for dropping."""
    admin, dsn = one_container
    name = f"test_{next(NUMBERS)}"
    admin.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    with psycopg.connect(dsn, dbname=name) as connection:
        yield connection


@pytest.fixture
def container_each():
    """Start a container for each test."""
    with container() as running:
        dsn = dsn_of(running)
        schema.migrate(conninfo_to_dict(dsn))
        with psycopg.connect(dsn) as connection:
            yield connection


if ASKED["contender"] in globals():  # else it has a ``database`` of its own
    database = globals()[ASKED["contender"]]  # pytest takes a fixture's name from the attribute that holds it
