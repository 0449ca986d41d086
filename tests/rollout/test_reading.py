"""How an audit reads: nothing is written, nothing waits long, and what a role may not see is said to be unseen."""

import threading
from dataclasses import replace

import pytest

from session_fix.errors import DatabaseUnreadableError
from session_fix.rollout import facts, rows, target

CONTENT = """
SELECT md5(coalesce(string_agg(t::text || t.xmin || t.ctid, ',' ORDER BY t.ctid), '')) FROM {} t
"""
COUNTED = """
SELECT sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del)
FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
WHERE NOT c.relisshared
"""
SEES = ("GRANT SELECT ON ai_sessions, ai_interactions, alembic_version TO {role}",)


def content(database):
    """Return what changes with any write here: each row with its version and place, and the row counts of all tables.

    Catalogs that all databases of a server share are left out: tests beside this one make databases and roles.
    """
    with database.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.commit()
        tables = ("ai_sessions", "ai_interactions", "alembic_version", "pg_class")
        rows = [connection.execute(CONTENT.format(table)).fetchone() for table in tables]
        return rows, connection.execute(COUNTED).fetchone()


@pytest.mark.state("orphans")
def test_nothing_is_written(audited, database):
    """It is run on production before anybody has decided anything."""
    before = content(database)
    assert audited().verdict == "fail"
    assert content(database) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM public.ai_sessions",
        "CREATE TABLE public.made (id int)",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT nextval('public.numbers')",
    ],
)
def test_the_audits_own_transaction_cannot_write(database, statement):
    """The server refuses, so a mistake in a query of ours costs nobody a row."""
    database.rows("CREATE SEQUENCE numbers")

    def attempt():
        with target.reading(database.params, timeout_s=5) as (connection, arrived):
            assert arrived
            connection.execute("SELECT 1")
            connection.execute(statement)

    with pytest.raises(DatabaseUnreadableError, match=r"25006|25001"):
        attempt()


@pytest.mark.state("orphans")
def test_a_role_that_may_only_select_sees_all_that_matters(audited, role):
    """Whoever audits need not be able to change anything."""
    told = audited(role(*SEES))
    whole = audited()
    assert {one.id: one.count for one in told.findings} == {one.id: one.count for one in whole.findings}
    assert not [one for one in told.facts.unseen if one.matters]


def test_a_role_without_rights_says_what_it_could_not_see(audited, role):
    """Somebody who could look at nothing has not found that nothing is wrong."""
    told = audited(role())
    assert told.verdict == "inconclusive"
    unseen = {one.what: one.why for one in told.facts.unseen}
    assert {"the rows of ai_sessions", "the rows of ai_interactions", "the Alembic version"} <= set(unseen)
    assert "no right" in unseen["the rows of ai_sessions"]


def test_rows_that_a_policy_hides_are_not_counted_as_if_they_were_all(audited, database, role):
    """Row level security filters without a word; a count of what it leaves would be wrong."""
    database.rows("ALTER TABLE ai_sessions DISABLE ROW LEVEL SECURITY")
    told = audited(role(*SEES, "ALTER ROLE {role} NOBYPASSRLS"))
    assert "rows/all/ai_sessions" in told.facts.counts
    assert "rows/all/ai_interactions" not in told.facts.counts
    assert told.verdict == "inconclusive"
    assert "BYPASSRLS" in next(one.why for one in told.facts.unseen if one.what == "the rows of ai_interactions")


@pytest.mark.parametrize("column", ["created_at", "user_id"])
def test_a_single_column_that_may_not_be_read_is_named(audited, role, column):
    """Sensitive columns are often kept from whoever watches over a database."""
    others = ", ".join({"id", "user_id", "created_at", "updated_at"} - {column})
    told = audited(
        role(*SEES, "REVOKE SELECT ON ai_sessions FROM {role}", f"GRANT SELECT ({others}) ON ai_sessions TO {{role}}")
    )
    assert any(one.what.startswith(f"ai_sessions.{column}") for one in told.facts.unseen)
    assert any(one.what == "orphans and phantoms" for one in told.facts.unseen)


def test_a_table_that_somebody_holds_is_passed_over(audited, database):
    """An audit that waits for a lock stands in the way of whoever waits behind it."""
    with database.connect() as connection:
        connection.execute("LOCK TABLE ai_sessions IN ACCESS EXCLUSIVE MODE")
        told = audited()
    assert told.verdict == "inconclusive"
    unseen = {one.what: one.why for one in told.facts.unseen}
    assert "lock" in unseen["the size of ai_sessions"]
    assert "may be large" in unseen["the rows of ai_sessions"]
    assert "rows/all/ai_interactions" in told.facts.counts


def test_a_count_that_takes_too_long_is_given_up(audited, database, monkeypatch):
    """Production must not pay for the audit's curiosity; what was not counted is said, and the rest is there."""
    slow = replace(rows.ROW_CHECKS[0], condition="pg_sleep(60) IS NULL")
    monkeypatch.setattr(rows, "ROW_CHECKS", (slow,))
    database.rows("INSERT INTO ai_sessions (id, created_at, updated_at) VALUES (gen_random_uuid(), now(), now())")
    told = audited(timeout_s=2)
    assert [one.what for one in told.facts.unseen if "--timeout" in one.why] == [f"the rows of {slow.table}"]
    assert told.facts.counts["rows/empty-sessions"].number == 1
    assert told.verdict == "inconclusive"


def test_counts_belong_to_one_moment(database, monkeypatch):
    """Rows that come in between two counts would look like orphans, or hide some."""
    read = facts.counts
    statement = "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"

    def meanwhile(*given):
        database.rows(statement)
        return read(*given)

    monkeypatch.setattr(facts, "counts", meanwhile)
    assert facts.read(database.params).counts["rows/all/ai_sessions"].number == 0


def test_long_transactions_are_told_without_their_query(audited, database, monkeypatch):
    """Whoever holds up a rollout has to be found, and a query text may hold somebody's prompt."""
    monkeypatch.setattr("session_fix.rollout.server_findings.LONG_S", 0)
    with database.connect(application_name="nightly export") as connection:
        connection.execute("SELECT 'canary'")
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
        told = audited()
    finding = next(one for one in told.findings if one.id == "server/long-transactions")
    assert f"process {pid}" in finding.what
    assert "nightly export" in finding.what
    assert "canary" not in repr(told)


def test_sessions_of_others_are_said_to_be_hidden(audited, database, role):
    """Without pg_read_all_stats nobody knows how long another role's transaction is open."""
    with database.connect():
        told = audited(role(*SEES))
    assert any("pg_read_all_stats" in one.why and not one.matters for one in told.facts.unseen)


def test_a_search_path_full_of_traps_changes_nothing(audited, database, role):
    """Somebody else's tables and operators of the same names must not be what is read."""
    auditor = role(*SEES)
    for statement in (
        "CREATE SCHEMA evil",
        "CREATE TABLE evil.ai_sessions AS SELECT NULL::uuid AS id FROM generate_series(1, 7)",
        "CREATE FUNCTION evil.lie(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.lie)",
        "GRANT USAGE ON SCHEMA evil TO PUBLIC",
        f"ALTER ROLE {auditor['user']} SET search_path = evil, pg_catalog, public",
    ):
        database.rows(statement)
    told = audited(auditor)
    assert told.facts.counts["rows/all/ai_sessions"].number == 0
    assert told.verdict == "pass"


def test_a_database_that_goes_away_is_an_error_and_no_result(database, monkeypatch):
    """Half an audit must not look like one."""
    read = facts.counts

    def end(tables, reader, *rest):
        database.rows("SELECT pg_terminate_backend(%s)", reader.connection.info.backend_pid)
        return read(tables, reader, *rest)

    monkeypatch.setattr(facts, "counts", end)
    with pytest.raises(DatabaseUnreadableError):
        facts.read(database.params)


def test_two_audits_at_once_do_not_disturb_each_other(database):
    """Nothing they take excludes another reader."""
    told = []
    threads = [threading.Thread(target=lambda: told.append(facts.read(database.params))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(one.tables) for one in told] == [2, 2]


def test_no_server_is_an_error_that_names_none_of_the_secrets(database):
    """The client library's messages quote parameters."""
    with pytest.raises(DatabaseUnreadableError) as caught:
        facts.read(database.params | {"host": "/nowhere", "password": "canary"})
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_the_driver_does_not_prepare_statements(database):
    """Behind a pooler in transaction mode a prepared statement is in another session than the one that needs it."""
    with target.reading(database.params, timeout_s=5) as (connection, _):
        assert connection.prepare_threshold is None
