"""Programs of libpq find the database they were given and no other, and no secret of it is shown."""

from session_fix import libpq

PARAMS = {"host": "127.0.0.1", "port": "6543", "user": "anna", "password": "s3cret", "dbname": "db", "hostaddr": ""}


def test_parameters_become_variables():
    """What ``ps`` does not show: an environment."""
    assert libpq.environment(PARAMS, {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "PGHOST": "127.0.0.1",
        "PGPORT": "6543",
        "PGUSER": "anna",
        "PGPASSWORD": "s3cret",
        "PGDATABASE": "db",
    }


def test_nothing_leads_elsewhere():
    """A PGSERVICE or PGHOSTADDR in somebody's shell must not send a test to another server."""
    outside = {"PGSERVICE": "production", "PGHOSTADDR": "192.0.2.1", "PGDATABASE": "production"}
    assert libpq.environment({"host": "/run/socket"}, outside) == {"LC_ALL": "C", "PGHOST": "/run/socket"}


def test_a_parameter_without_a_variable_is_left_out():
    """There is no other place for it that others cannot read."""
    assert libpq.environment({"keepalives": "1", "sslpassword": "s3cret"}, {}) == {"LC_ALL": "C"}


def test_secrets_do_not_show_in_what_a_program_wrote():
    """A server may repeat what it was sent."""
    assert libpq.without_secrets("s3cret is wrong for anna, db", PARAMS) == "[secret] is wrong for anna, db"
