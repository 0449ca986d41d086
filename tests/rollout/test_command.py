"""The command as its users meet it: exit codes, a table for people, JSON, and no secret in either."""

import pytest
from psycopg.conninfo import make_conninfo

CANARY = "canary"


@pytest.mark.state("orphans")
def test_what_is_to_be_repaired_is_an_exit_code_of_1(command, database):
    """A script in front of the rollout goes by it."""
    done, report = command(database.params)
    assert (done.returncode, report["verdict"]) == (1, "fail")
    assert "something to repair: 4 problems" in done.stdout
    assert "rows/orphans" in {one["id"] for one in report["findings"]}


def test_nothing_to_repair_is_an_exit_code_of_0(command, database):
    """The other half of the same promise."""
    done, report = command(database.params)
    assert (done.returncode, report["verdict"]) == (0, "pass")


def test_what_cannot_be_seen_is_an_exit_code_of_3(command, database, role):
    """Who may look at nothing has not found that nothing is wrong."""
    done, report = command(database.params | role())
    assert (done.returncode, report["verdict"]) == (3, "inconclusive")
    assert "not seen:" in done.stdout


@pytest.mark.state("hand_made")
def test_the_table_fits_a_log(command, database):
    """It is pasted into tickets and read in CI logs: 80 columns, no colours, nothing but printable characters."""
    done, _ = command(database.params)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        (None, "not set"),
        ("postgresql://u:canary@db.example.com/app", "--allow-remote"),
        ("postgresql://u:canary@localhost", "no database"),
        ("postgresql://u:pa@canary@localhost/app", "percent-encoded"),
        ("postgresql://u:canary%zz@localhost/app", "percent-encoded"),
        ("postgresql://localhost:canary/app", "percent-encoded"),
        ("postgresql:///app?password=canary", "no host"),
    ],
)
def test_a_wrong_dsn_is_an_exit_code_of_2_and_never_quoted(command, dsn, says):
    """What is mistyped in a DSN is a password as often as not."""
    done, report = command(dsn)
    assert (done.returncode, report) == (2, None)
    assert says in done.stderr
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.parametrize("dsn", ["postgresql://u:pa/canary@localhost/app", "postgresql://u:12/canary@localhost/app"])
def test_a_password_that_is_taken_for_a_port_or_a_database_is_not_quoted(command, dsn):
    """The client library ends the host at the first slash; whoever allows remote hosts gets past the check of those."""
    done, report = command(dsn, "--allow-remote")
    assert (done.returncode, report) == (2, None)
    assert "percent-encoded" in done.stderr
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "wrong", [{"port": "1"}, {"dbname": "nowhere"}, {"user": "nobody_at_all"}, {"host": "/nowhere"}]
)
def test_no_connection_is_an_exit_code_of_3_without_the_password(command, database, wrong):
    """Errors of the client library end up in the same logs as everything else."""
    done, report = command(database.params | {"password": CANARY} | wrong)
    assert (done.returncode, report) == (3, None)
    assert CANARY not in done.stdout + done.stderr
    assert "cannot be reached" in done.stderr


@pytest.mark.state("orphans")
def test_neither_password_nor_rows_are_in_a_report(command, database):
    """It is handed around; what users wrote, and who they are, is not part of it."""
    database.rows("UPDATE ai_interactions SET prompt = 'canary', response = 'canary'")
    database.rows("UPDATE ai_sessions SET user_id = 'canary' WHERE user_id LIKE 'user-%%'")
    password = database.params.get("password") or CANARY  # a server that asks for one is let have it
    done, report = command(make_conninfo(**database.params | {"password": password}))
    assert done.returncode == 1
    shown = done.stdout + done.stderr + str(report)
    assert CANARY not in shown
    assert password not in shown


def test_names_in_the_database_cannot_steer_the_terminal(command, database):
    """Whoever may create a policy may name it, and the operator's terminal obeys escape sequences."""
    database.rows("ALTER TABLE ai_sessions ENABLE ROW LEVEL SECURITY")
    database.rows('CREATE POLICY "\x1b[2Jgone\n::error::" ON ai_sessions USING (true)')
    done, _ = command(database.params)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert not any(line.startswith("::") for line in done.stdout.splitlines())
