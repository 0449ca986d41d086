"""What goes wrong while databases are dropped and a run ends fails no other test and leaves nothing else undone."""

import contextlib
import dataclasses
import secrets

import psycopg
import pytest

from session_fix.databases import Databases
from session_fix.errors import NoServerError
from session_fix.isolation.private import PrivateDatabases

pytestmark = pytest.mark.usefixtures("nothing_is_made_ahead")


def migrate(params):
    """Make one table."""
    with psycopg.connect(**params) as connection:
        connection.execute("CREATE TABLE log (what text)")
    return "head"


@pytest.fixture
def run_of(databases):
    """Return a function that opens a run as on somebody else's server, where nothing of it may stay."""
    opened = []

    def open_(user):
        server = databases.server
        foreign = dataclasses.replace(server, kind="external", admin=server.admin | {"user": user})
        opened.append(Databases(foreign, run=secrets.token_hex(4), migrate=migrate))
        return opened[-1]

    yield open_
    for run in opened:
        with contextlib.suppress(NoServerError):  # the limited one must not drop the server's own template
            run.close()


@pytest.fixture
def ours(run_of):
    """Return a run of the superuser, who can have databases recycled."""
    return run_of("postgres")


@pytest.fixture
def limited(run_of, databases):
    """Return a run of a role that can drop what it owns, and nothing else."""
    role = f"limited_{secrets.token_hex(3)}"
    databases.execute(f"CREATE ROLE {role} LOGIN CREATEDB CREATEROLE BYPASSRLS")
    return run_of(role)


@pytest.fixture
def there(databases):
    """Return a function that lists the databases of a run."""

    def look(run):
        query = "SELECT datname FROM pg_database WHERE datname LIKE %s"
        return {name for (name,) in databases.execute(query, f"{run.template().rpartition('_')[0]}%")}

    return look


def lender(run, let_go=lambda _: None):
    """Return the private databases of a run."""
    return PrivateDatabases(run, rest=lambda: "", settled=lambda _: None, let_go=let_go, alone=True)


def test_a_database_that_cannot_be_dropped_fails_no_other_test(limited, databases, there):
    """They have done nothing, and cannot do anything about it; it is said once, at the end."""
    private = lender(limited)
    with private.lend("clone") as first:
        databases.execute(f"ALTER DATABASE {first.name} OWNER TO postgres")
    for _ in range(2):
        with private.lend("clone") as database:
            assert database.rows("SELECT count(*) FROM log") == [(0,)]
    private.close()
    assert private.mishaps == [f"{first.name}: InsufficientPrivilege: must be owner of database {first.name}"]
    assert there(limited) == {first.name, limited.template()}
    databases.execute(f"DROP DATABASE {first.name}")


def test_a_data_api_that_does_not_let_go_does_not_keep_the_database(ours, there):
    """It may have died, and that is no reason to fill somebody's server."""

    def dead(name):
        raise RuntimeError(f"no answer about {name}")

    private = lender(ours, dead)
    with private.lend("clone") as first:
        pass
    with private.lend("clone"):
        pass
    private.close()
    assert private.mishaps[0] == f"{first.name}: RuntimeError: no answer about {first.name}"
    assert there(ours) == {ours.template()}


def test_what_fails_while_one_is_let_go_of_does_not_keep_the_others(ours, there, databases, eventually):
    """Whoever ends a run has no second chance."""
    private = lender(ours)
    with private.lend("recycle") as one, private.lend("recycle") as other:
        names = [one.name, other.name]

    def are_ready():
        with private.lend("clone"):  # meanwhile the others are emptied
            return private.ended["recycled"] == len(names)

    eventually(are_ready)
    databases.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ANY(%s)", names)
    with pytest.raises(psycopg.OperationalError):
        private.close()
    assert there(ours) == {ours.template()}
