"""What is repaired and what is left: for each rule the rows that it decides, and a mutant that decides otherwise."""

# The statements below are made of the constants below.
# ruff: noqa: S608

from dataclasses import dataclass, field

import psycopg
import pytest

from session_fix.errors import StepFailedError
from session_fix.rollout import repair
from session_fix.rollout.repair import statements

A, B, C = (f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "abc")
P, Q, R = (f"0000000{digit}-0000-4000-8000-000000000000" for digit in "123")
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey;"
OTHER = "CREATE TABLE feedback (session_id uuid REFERENCES ai_sessions ON DELETE CASCADE); INSERT INTO feedback VALUES "
EXTRA = """
ALTER TABLE ai_sessions ADD title text NOT NULL DEFAULT 'old', ADD token uuid UNIQUE DEFAULT gen_random_uuid(),
    ADD length int GENERATED ALWAYS AS (length(title)) STORED, ADD number int GENERATED ALWAYS AS IDENTITY;
ALTER TABLE ai_sessions ALTER title DROP DEFAULT;
"""
SWALLOW = """
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE DELETE ON ai_sessions FOR EACH ROW EXECUTE FUNCTION swallow();
"""
STAMP = """
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.created_at := now(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON ai_sessions FOR EACH ROW EXECUTE FUNCTION stamp();
"""
FAILS = "refused"


def at(hour):
    """Return a moment as PostgreSQL prints it where the zone is UTC."""
    return f"2026-01-05 {hour:02}:00:00+00"


def session(id_, user=None, hour=1, touched=None, *, columns="", values=""):
    """Return the statement that stores a session; never touched unless said otherwise."""
    user = f"'{user}'" if user else "NULL"
    written = f"'{id_}', {user}, '{at(hour)}', '{at(touched or hour)}'{values}"
    return f"INSERT INTO ai_sessions (id, user_id, created_at, updated_at{columns}) VALUES ({written});"


def asked(session_id, hour=5):
    """Return the statement that stores an interaction."""
    return (
        "INSERT INTO ai_interactions (id, session_id, prompt, response, created_at) "
        f"VALUES (gen_random_uuid(), '{session_id}', '', '', '{at(hour)}');"
    )


@dataclass(frozen=True)
class Case:
    """Rows, and the sessions that a repair leaves of them; mutants are pairs of words in a file of SQL."""

    rows: str
    leaves: dict | str
    mutants: tuple = ()
    options: dict = field(default_factory=dict)


def row(user, began, ended=None):
    """Return what ``sessions()`` says of a row."""
    return (user, at(began), at(ended or began))


CASES = {
    "phantoms become the session that interactions name, from the first creation to the last use": Case(
        KEYLESS + session(P, A, 2) + session(Q, A, 1) + session(R, A, 3) + asked(A, 4),
        {A: row(None, 1, 3)},
        (
            ("merge", ("min(s.created_at)", "max(s.created_at)")),
            ("merge", ("max(s.updated_at)", "min(s.updated_at)")),
            ("merge", ("'user_id', NULL, ", "")),
        ),
    ),
    "a stored session takes the earliest creation": Case(
        session(A, "anna", 2, 4) + session(P, A, 1),
        {A: row("anna", 1, 4)},
        (
            ("merge", ("least(s.created_at, w.created_at)", "s.created_at")),
            ("merge", ("SET updated_at = w.updated_at FROM", "SET updated_at = s.updated_at FROM")),
        ),
    ),
    "a stored session takes the latest use": Case(
        session(A, "anna", 1, 2) + session(P, A, 3),
        {A: row("anna", 1, 3)},
        (("merge", ("greatest(s.updated_at, w.updated_at)", "s.updated_at")),),
    ),
    "a stored session that began earlier and was used later stays as it is": Case(
        session(A, "anna", 1, 4) + session(P, A, 2),
        {A: row("anna", 1, 4)},
        (
            ("merge", ("least(s.created_at, w.created_at)", "w.created_at")),
            ("merge", ("greatest(s.updated_at, w.updated_at)", "w.updated_at")),
        ),
    ),
    "a moment that is missing says nothing": Case(
        KEYLESS + asked(A) + session(P, A, 2) + f"INSERT INTO ai_sessions VALUES ('{Q}', '{A}', NULL, NULL)",
        {A: row(None, 2)},
        (("phantoms", ("IS NOT DISTINCT FROM", "=")),),
    ),
    "what was used is no phantom": Case(
        session(A, "anna", 1, 4) + session(P, A, 2) + asked(P),
        {A: row("anna", 1, 4), P: row(A, 2)},
        (
            (
                ("phantoms", ("n.untouched AND u.id IS NULL", "n.untouched")),
                ("merge", ("p USING public.ai_interactions i WHERE i.session_id = p.id", "p WHERE false")),
            ),
        ),
    ),
    "what was touched is no phantom": Case(
        session(A, "anna", 1, 4) + session(P, A, 2, 3),
        {A: row("anna", 1, 4), P: row(A, 2, 3)},
        (
            (
                ("phantoms", ("created_at IS NOT DISTINCT FROM updated_at AS", "true AS")),
                ("merge", ("AND s.created_at IS NOT DISTINCT FROM s.updated_at", "")),
            ),
        ),
    ),
    "what somebody else asked for by its id is no phantom, but a session": Case(
        session(A, "anna", 1, 9) + session(B, A, 2) + session(P, B, 3),
        {A: row("anna", 1, 9), B: row(A, 2, 3)},
        (("phantoms", (" AND known.session_id IS NULL", "")),),
    ),
    "a session that is its own user is no phantom": Case(
        session(A, A, 1), {A: row(A, 1)}, (("phantoms", (" AND known.session_id IS NULL", "")),)
    ),
    "an id in capitals is the same id": Case(
        session(A, "anna", 2, 4) + session(P, A.upper(), 1),
        {A: row("anna", 1, 4)},
        (("phantoms", ("WHERE lower(user_id::text) ~", "WHERE user_id::text ~")),),
    ),
    "a user with a name is no session": Case(
        session(A, "anna", 1) + session(P, f"{A}x", 1),
        {A: row("anna", 1), P: row(f"{A}x", 1)},
        (("phantoms", ("{12}$'", "{12}'")),),
    ),
    "a user with a UUID that nothing else names is left": Case(
        session(P, A, 1),
        {P: row(A, 1)},
        (
            (
                ("phantoms", ("p.session_id, s.certain", "p.session_id, true AS certain")),
                ("merge", ("WHERE p.certain AND NOT", "WHERE false AND NOT")),
            ),
        ),
    ),
    "a user with a UUID that nothing else names, where likely is enough": Case(
        session(P, A, 1) + session(Q, A, 2),
        {A: row(None, 1, 2)},
        (("phantoms", ("NOT s.account AND", "false AND")),),
        {"phantoms": "likely"},
    ),
    "a user whose other sessions were used has an account": Case(
        session(P, A, 1) + session(Q, A, 2) + asked(Q),
        {P: row(A, 1), Q: row(A, 2)},
        (("phantoms", ("NOT s.account AND", "")),),
        {"phantoms": "likely"},
    ),
    "a likely phantom of this hour may be a session that is about to be used": Case(
        f"INSERT INTO ai_sessions SELECT '{P}', '{A}', m, m FROM CAST(now() AS timestamptz) m",
        None,
        (("phantoms", ("now() - interval", "now() + 9 * interval")),),
        {"phantoms": "likely"},
    ),
    "what another table refers to is in use": Case(
        session(A, "anna", 1, 4) + session(P, A, 2) + OTHER + f"('{P}')",
        {A: row("anna", 1, 4), P: row(A, 2)},
        (("uses", ("WHERE k.contype = 'f'", "WHERE k.contype = 'x'")),),
    ),
    "columns of one's own come along": Case(
        EXTRA
        + session(P, A, 1, columns=", title", values=", 'first'")
        + session(Q, A, 2, columns=", title", values=", 'second'")
        + KEYLESS
        + asked(A),
        {A: row(None, 1, 2)},
        (
            ("merge", ("AND attgenerated = ''", "")),
            ("merge", (" AND attidentity = ''", "")),
            ("merge", ("t.earliest || ", "")),
        ),
    ),
    "a session that only interactions name lasts from the first to the last": Case(
        KEYLESS + asked(A, 3) + asked(A, 2) + asked(A, 6),
        {A: row(None, 2, 6)},
        (
            ("create", ("min(i.created_at)", "max(i.created_at)")),
            ("create", ("max(i.created_at)", "min(i.created_at)")),
        ),
    ),
    "what does not survive a copy is not touched": Case(
        session(A, "anna", 1, 4) + session(P, A, 2) + "ALTER TABLE ai_sessions ADD notes json DEFAULT '{ \"a\":  1}'",
        FAILS,
        (("merge", ("<> s::text", "<> s::text AND false")),),
    ),
    "a trigger that keeps rows from being deleted": Case(
        SWALLOW + session(A, "anna", 1, 4) + session(P, A, 2),
        FAILS,
        (("merge", ("RAISE EXCEPTION USING", "RAISE NOTICE USING")),),
    ),
    "a trigger that changes what is stored": Case(
        KEYLESS + session(P, A, 1) + asked(A) + STAMP,
        FAILS,
        (("merge", ("RAISE EXCEPTION USING", "RAISE NOTICE USING")),),
    ),
}
MUTANTS = [(name, mutant) for name, case in CASES.items() for mutant in case.mutants]


@pytest.fixture
def outcome(database, sessions):
    """Return a function that stores a case's rows, repairs, and returns what it leaves: sessions, or that it fails."""

    def perform(case):
        database.rows(case.rows)
        before = sessions()
        try:
            done = repair.repair(database.params, **case.options)
        except (StepFailedError, psycopg.Error):
            assert sessions() == before, "a batch that is refused leaves nothing behind"
            return FAILS
        found = sessions()
        assert done.merged == len(before.keys() - found.keys())
        return None if case.leaves is None and found == before else found

    return perform


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_repair_leaves(outcome, case):
    """Each is a rule that somebody's rows depend on."""
    assert outcome(case) == case.leaves


@pytest.mark.parametrize(("name", "mutant"), MUTANTS, ids=[name for name, _ in MUTANTS])
def test_a_rule_that_is_broken_shows(outcome, mutated, name, mutant):
    """A case that cannot fail says nothing."""
    for change in mutant if isinstance(mutant[0], tuple) else (mutant,):
        mutated(*change)
    assert outcome(CASES[name]) != CASES[name].leaves


def test_columns_of_ones_own_are_those_of_the_first_phantom(database):
    """What a hand-made table holds besides is nobody's to throw away."""
    database.rows(CASES["columns of one's own come along"].rows)
    ((token,),) = database.rows("SELECT token FROM ai_sessions WHERE id = %s", P)
    repair.repair(database.params)
    assert database.rows("SELECT title, token, length FROM ai_sessions") == [("first", token, 5)]


ORPHANED = KEYLESS + session(B, "ben", 1, 2) + asked(A, 2) + asked(A, 3) + asked(B, 2)


@pytest.mark.parametrize("way", ["quarantine", "delete"])
def test_orphans_are_taken_away_and_others_are_not(database, sessions, way):
    """Their copies are in the journal, whole; a table aside has those in quarantine."""
    database.rows(ORPHANED)
    rows = database.rows("SELECT * FROM ai_interactions WHERE session_id = %s ORDER BY id", A)
    done = repair.repair(database.params, orphans=way)
    assert (done.quarantined, done.deleted) == ((2, 0) if way == "quarantine" else (0, 2))
    assert database.rows("SELECT session_id::text FROM ai_interactions") == [(B,)]
    assert set(sessions()) == {B}
    copied = "FROM session_fix.repair_journal j, jsonb_populate_record(NULL::ai_interactions, j.before) i"
    assert database.rows(f"SELECT i.* {copied} ORDER BY i.id") == rows
    aside = "session_fix.quarantined_interactions"
    if way == "quarantine":
        assert database.rows(f"SELECT * FROM {aside} ORDER BY id") == rows
    else:
        assert database.rows("SELECT to_regclass(%s)", aside) == [(None,)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RETURNING i.id, p.session_id, to_jsonb(i)", "RETURNING i.id, p.session_id, '{}'::jsonb"),
        ("USING pg_temp.session_fix_picked p WHERE i.id = p.id", "USING pg_temp.session_fix_picked p"),
    ],
)
def test_a_copy_that_is_not_whole_or_a_row_too_many_shows(database, mutated, old, new):
    """The same question as above, put to a repair that does it wrong."""
    mutated("remove", (old, new))
    database.rows(ORPHANED)
    rows = database.rows("SELECT * FROM ai_interactions WHERE session_id = %s ORDER BY id", A)
    copied = "FROM session_fix.repair_journal j, jsonb_populate_record(NULL::ai_interactions, j.before) i"
    try:
        repair.repair(database.params, orphans="delete")
    except StepFailedError:
        return
    assert database.rows(f"SELECT i.* {copied} ORDER BY i.id") != rows


def test_orphans_that_another_table_refers_to_stay(database):
    """Deleting them would delete what refers to them, of which there is no copy."""
    database.rows(ORPHANED + "CREATE TABLE votes (of uuid REFERENCES ai_interactions ON DELETE CASCADE)")
    database.rows("INSERT INTO votes SELECT id FROM ai_interactions WHERE session_id = %s LIMIT 1", A)
    done = repair.repair(database.params, orphans="delete")
    assert (done.deleted, done.left, database.rows("SELECT count(*) FROM votes")) == (1, 1, [(1,)])


def test_what_is_not_asked_for_is_not_done(database, sums):
    """Either half can be left to somebody else."""
    database.rows(KEYLESS + session(A, "anna", 1, 4) + session(P, A, 2) + asked(B))
    before = sums(database)
    assert repair.repair(database.params, phantoms="none", orphans="none").changes == 0
    assert sums(database) == before
    assert repair.repair(database.params, orphans="none").merged == 1
    assert repair.repair(database.params, phantoms="none").sessions_created == 1


def test_certain_is_what_is_meant_where_nothing_is_said(database, monkeypatch):
    """The others are a guess, and a guess is somebody's to make."""
    database.rows(session(P, A, 1))
    assert repair.repair(database.params).merged == 0
    monkeypatch.setitem(statements.PHANTOMS, "certain", "")
    assert repair.repair(database.params).merged == 1, "the choice is what keeps them"
