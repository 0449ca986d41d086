"""What may be a DSN of an external server: this machine unless said otherwise, and never quoted in an error."""

import traceback

import pytest

from session_fix.errors import UsageError
from session_fix.servers.external import parse

CANARY = "canary"


def refused(dsn, **options):
    """Return the error of a DSN that must be refused, after a look that its secrets are in no part of it."""
    with pytest.raises(UsageError) as caught:
        parse(dsn, **options)
    shown = f"{caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    assert CANARY not in shown
    assert dsn not in str(caught.value) or not dsn
    return str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres//u:canary@h/db",
        "postgres:/u:canary@h/db",
        "postgresql//u:canary@localhost/db",
        "postgresql://u:canary%zz@localhost/db",
        "postgresql://u:canary%@localhost/db",
        "postgresql://u:canary@[::1/db",
        "postgresql://u:canary@localhost/db?passwort=canary",
        "postgresql://u@localhost/db?password=canary&sslmode",
        "host=localhost password=canary and=more than=that",
        "host=localhost password=canary canary",
        "host=localhost password='canary",
        "https://u:canary@localhost/db",
        "canary",
        "u:canary@localhost",
    ],
)
def test_a_dsn_that_cannot_be_parsed_is_not_quoted(dsn):
    """Whoever mistypes a DSN has typed a password, and errors end up in CI logs."""
    assert "percent-encoded" in refused(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:pa@canary@localhost/db",
        "postgresql://u:pa/canary@localhost/db",
        "postgresql://u:@canary@localhost",
        "postgresql://u:pa/ss@canary@localhost/db?sslmode=canary",
    ],
)
def test_a_password_that_is_not_encoded_is_not_quoted_as_a_host(dsn):
    """The client library ends the password at the first @ and reads the rest of it as the host."""
    refused(dsn)


@pytest.mark.parametrize("dsn", ["postgresql://u:canary\udcff@localhost/db", "host=localhost password=canary\ud800"])
def test_a_dsn_of_bytes_that_are_no_text_is_refused_like_any_other(dsn):
    """An environment variable can hold such bytes; Python's own error would show the whole string."""
    refused(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "postgresql://",
        "postgresql://u:canary@/db",
        "dbname=x password=canary",
        "postgresql://u:canary@:5432/db",
        "host=''",
    ],
)
def test_a_dsn_without_a_host_is_refused(dsn, monkeypatch):
    """The client library would take the host from the environment: it may be the production one."""
    monkeypatch.setenv("PGHOST", "production.example")
    assert "no host" in refused(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:canary@db.example.com/db",
        "postgresql://u:canary@10.0.0.1:5432/db",
        "postgresql://u:canary@[2001:db8::1]/db",
        "postgresql://u:canary@0.0.0.0/db",
        "postgresql://u:canary@localhost.example.com/db",
        "postgresql://u:canary@localhost,db.example.com/db",
        "postgresql://u:canary@127.0.0.1,10.0.0.1/db",
        "host=db.example.com hostaddr=127.0.0.1 password=canary",
        "hostaddr=10.0.0.1 password=canary",
        "host=localhost hostaddr=10.0.0.1 password=canary",
        "host=/tmp hostaddr=10.0.0.1 password=canary",
        "postgresql://u:canary@localhost/db?hostaddr=10.0.0.1",
        "postgresql://u:canary@localhost/db?host=db.example.com",
    ],
)
def test_another_machine_is_refused_unless_it_is_allowed(dsn):
    """Databases are created and dropped there; where libpq connects is hostaddr, whatever host says."""
    assert "--allow-remote" in refused(dsn)
    assert parse(dsn, allow_remote=True)["password"] == CANARY


@pytest.mark.parametrize(
    ("dsn", "host"),
    [
        ("postgresql://u:canary@localhost/db", "localhost"),
        ("postgres://u:canary@localhost:5433", "localhost"),
        ("postgresql://u:canary@127.0.0.1/db", "127.0.0.1"),
        ("postgresql://u:canary@127.8.9.10/db", "127.8.9.10"),
        ("postgresql://u:canary@[::1]:5432/db", "::1"),
        ("postgresql://u:canary@%2Frun%2Fpostgresql/db", "/run/postgresql"),
        ("postgresql:///db?host=/tmp&password=canary", "/tmp"),  # noqa: S108  where PostgreSQL's socket often lies
        ("host=localhost user=u password=canary dbname=db", "localhost"),
        ("host=localhost hostaddr=127.0.0.1 password=canary", "localhost"),
    ],
)
def test_this_machine_is_accepted_in_every_form(dsn, host):
    """Loopback addresses and sockets are this machine's."""
    params = parse(dsn)
    assert (params["host"], params["password"]) == (host, CANARY)


def test_an_address_alone_names_a_host():
    """The client library needs no name where there is an address."""
    assert parse("hostaddr=127.0.0.1 user=u") == {"hostaddr": "127.0.0.1", "user": "u"}


def test_the_database_of_a_dsn_is_left_out():
    """The tool connects to databases it makes, and to no other."""
    params = parse("postgresql://u:p%40ss@localhost:5433/production?sslmode=disable")
    assert params == {"user": "u", "password": "p@ss", "host": "localhost", "port": "5433", "sslmode": "disable"}
