"""Which calls may be swapped: for each rule two that may, and two that may not."""

import json
from dataclasses import replace

import pytest

from session_fix.explore import schema as of_database
from session_fix.explore.accesses import Reference, Schema, access_of, independent
from session_fix.tap.messages import Request

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
I1, I2 = "aaaaaaaa-1111-4111-8111-111111111111", "aaaaaaaa-2222-4222-8222-222222222222"
S, I = "ai_sessions", "ai_interactions"  # noqa: E741  the two tables, a hundred times
SCHEMA = Schema({S: "id", I: "id", "noisy": "id"}, (Reference(I, "session_id", S, "id"),), frozenset({S, I}))
SHOWN = {"prefer": "return=representation"}


def call(method, target, body=None, **headers):
    """Return a call of the data API."""
    raw = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Request(method, f"/rest/v1/{target}", raw, content)


def get(target, **headers):
    """Return a call that reads."""
    return call("GET", target, **headers)


def insert(table, query="", /, prefer="", **row):
    """Return a call that inserts one row."""
    return call("POST", table + query, row, prefer=prefer)


def patch(target, body, **headers):
    """Return a call that updates."""
    return call("PATCH", target, body, **headers)


def delete(target):
    """Return a call that deletes."""
    return call("DELETE", target)


BY_KEY, TOUCH = get(f"{S}?select=id&id=eq.{ONE}"), patch(f"{S}?id=eq.{ONE}", {"updated_at": "now"})
CREATE, LOG = insert(S, id=ONE), insert(I, id=I1, session_id=ONE)
MERGE = "resolution=merge-duplicates"
OTHERS_TOUCH = patch(f"{S}?id=eq.{TWO}", {"updated_at": "now"})

MAY = {
    "reads": (get(f"{S}?select=*"), get(f"{S}?select=*")),
    "a read of one row, a change of another": (get(f"{S}?id=eq.{ONE}"), OTHERS_TOUCH),
    "a read of a column, a change of another": (BY_KEY, TOUCH),
    "a key in capitals": (get(f"{S}?id=eq.{ONE.upper()}"), OTHERS_TOUCH),
    "a key that the URL hides": (get(f"{S}?id=%65q.{ONE}"), OTHERS_TOUCH),
    "two rows of one table": (CREATE, insert(S, id=TWO)),
    "two upserts": (insert(S, "?on_conflict=id", prefer=MERGE, id=ONE), insert(S, id=TWO)),
    "rows in bulk": (call("POST", S, [{"id": ONE}]), call("POST", S, [{"id": TWO}, {"id": I1}])),
    "rows in bulk, their columns listed": (
        call("POST", f'{S}?columns="id","user_id"', [{"id": ONE}]),
        call("POST", f'{S}?columns="id"', [{"id": TWO}]),
    ),
    "a row of no session": (insert(I, id=I1, session_id=None), CREATE),
    "a row of another session": (LOG, insert(S, id=TWO)),
    "the check of a parent that is touched": (LOG, TOUCH),
    "two columns of a row": (TOUCH, patch(f"{S}?id=eq.{ONE}", {"user_id": "u"})),
    "a change that shows other columns": (
        patch(f"{S}?id=eq.{ONE}&select=id", {"updated_at": "now"}, **SHOWN),
        patch(f"{S}?id=eq.{ONE}&select=id", {"user_id": "u"}, **SHOWN),
    ),
    "two rows that are deleted": (delete(f"{S}?id=eq.{ONE}"), delete(f"{S}?id=eq.{TWO}")),
    "a parent that goes, a child's other column": (
        delete(f"{S}?id=eq.{ONE}"),
        patch(f"{I}?id=eq.{I1}", {"response": "r"}),
    ),
    "the usual schema by name": (get(f"{S}?id=eq.{ONE}", accept_profile="public"), insert(S, id=TWO)),
}

MAY_NOT = {
    "a read of a row, its insert": (BY_KEY, CREATE),
    "a read of a row, its deletion": (BY_KEY, delete(f"{S}?id=eq.{ONE}")),
    "a read of all columns, a change of one": (get(f"{S}?id=eq.{ONE}"), TOUCH),
    "a star beside a column": (get(f"{S}?select=id,*&id=eq.{ONE}"), TOUCH),
    "a read of the column that is changed": (get(f"{S}?select=id,updated_at&id=eq.{ONE}"), TOUCH),
    "a filter by the column that is changed": (get(f"{S}?select=id&id=eq.{ONE}&updated_at=lt.2020"), TOUCH),
    "a filter by another column": (get(f"{S}?select=id&updated_at=lt.2020"), TOUCH),
    "several rows, which come in another order": (get(f"{S}?select=id&user_id=eq.u"), TOUCH),
    "the first of several rows": (get(f"{S}?select=id&limit=1"), TOUCH),
    "rows in the order of another column": (get(f"{S}?select=id&order=updated_at"), TOUCH),
    "a list of keys": (get(f"{S}?select=updated_at&id=in.({ONE},{TWO})"), TOUCH),
    "a key that is not meant": (get(f"{S}?select=updated_at&id=not.eq.{TWO}"), TOUCH),
    "a key in another form": (get(f"{S}?id=eq.{ONE.replace('-', '')}"), TOUCH),
    "a key in braces": (insert(S, id=f"{{{ONE}}}"), CREATE),
    "a key in capitals": (get(f"{S}?id=eq.{I1.upper()}"), patch(f"{S}?id=eq.{I1}", {"updated_at": "now"})),
    "numbers that may be equal": (get(f"{S}?id=eq.01"), patch(f"{S}?id=eq.1", {"user_id": "u"})),
    "one of two conditions": (get(f"{S}?select=id&or=(id.eq.{TWO},user_id.eq.u)"), TOUCH),
    "a condition turned round": (get(f"{S}?select=id&not.and=(id.eq.{TWO})"), TOUCH),
    "a condition on another table": (get(f"{S}?select=id&id=eq.{ONE}&ai_interactions.prompt=eq.p"), LOG),
    "an embedded table": (get(f"{S}?select=id,ai_interactions(id)&id=eq.{ONE}"), LOG),
    "an embedded table beside a star": (get(f"{S}?select=*,ai_interactions(*)&id=eq.{ONE}"), LOG),
    "a path into JSON": (get(f"{S}?select=updated_at->a&id=eq.{ONE}"), TOUCH),
    "a cast, and another name": (get(f"{S}?select=at:updated_at::text&id=eq.{ONE}"), TOUCH),
    "a parameter that comes twice": (get(f"{S}?select=updated_at&select=id&id=eq.{ONE}"), TOUCH),
    "nothing selected": (get(f"{S}?select=&id=eq.{ONE}"), TOUCH),
    "the same row twice": (CREATE, insert(S, "?on_conflict=id", prefer=MERGE, id=ONE)),
    "a row without a key": (insert(S, user_id="u"), insert(S, id=ONE)),
    "a key that is not listed": (call("POST", f'{S}?columns="user_id"', [{"id": TWO}]), CREATE),
    "a row in bulk": (call("POST", S, [{"id": TWO}, {"id": ONE}]), BY_KEY),
    "a row of a session that is created": (LOG, CREATE),
    "a row in bulk of a session that is deleted": (call("POST", I, [{"session_id": ONE}]), delete(f"{S}?id=eq.{ONE}")),
    "a session by default": (insert(I, id=I1), CREATE),
    "a session that is not listed": (call("POST", f'{I}?columns="id"', [{"id": I1, "session_id": TWO}]), CREATE),
    "a row that is no object": (call("POST", S, ["x"]), BY_KEY),
    "a body that is no JSON": (call("POST", S, b"id\nx", content_type="text/csv"), BY_KEY),
    "a row that moves to another session": (patch(f"{I}?id=eq.{I1}", {"session_id": ONE}), CREATE),
    "a row that leaves a session that is deleted": (
        patch(f"{I}?id=eq.{I1}", {"session_id": TWO}),
        delete(f"{S}?id=eq.{ONE}"),
    ),
    "a session that gets another id": (patch(f"{S}?id=eq.{TWO}", {"id": ONE}), LOG),
    "the same column": (TOUCH, TOUCH),
    "all rows": (patch(f"{S}?user_id=eq.u", {"updated_at": "now"}), TOUCH),
    "rows by a column that is changed": (
        patch(f"{S}?id=eq.{ONE}&user_id=is.null", {"updated_at": "now"}),
        patch(f"{S}?id=eq.{ONE}", {"user_id": "u"}),
    ),
    "a change that shows what is changed": (
        patch(f"{S}?id=eq.{ONE}", {"updated_at": "now"}, **SHOWN),
        patch(f"{S}?id=eq.{ONE}", {"user_id": "u"}),
    ),
    "columns that are listed": (patch(f"{S}?id=eq.{ONE}&columns=user_id", {}), get(f"{S}?id=eq.{ONE}")),
    "changes that are no object": (patch(f"{S}?id=eq.{TWO}", [{"updated_at": "now"}]), TOUCH),
    "a session and its interactions": (delete(f"{S}?id=eq.{ONE}"), LOG),
    "a session and any interaction": (delete(f"{S}?id=eq.{ONE}"), delete(f"{I}?id=eq.{I1}")),
    "whoever calls a function": (call("POST", "rpc/touch", {"id": TWO}), BY_KEY),
    "whoever reads by a function": (get("rpc/look"), TOUCH),
    "another schema": (get(f"{S}?id=eq.{TWO}", accept_profile="other"), TOUCH),
    "another schema to write to": (call("POST", S, {"id": TWO}, content_profile="other"), BY_KEY),
    "a table nobody knows": (get("unknown?id=eq.1"), TOUCH),
    "a table with triggers": (insert("noisy", id=TWO), BY_KEY),
    "another method": (call("PUT", f"{S}?id=eq.{TWO}", {"id": TWO}), BY_KEY),
    "another service of the project": (Request("POST", "/auth/v1/token", (), b""), BY_KEY),
}


@pytest.mark.parametrize("pair", MAY.values(), ids=MAY)
def test_calls_that_may_be_swapped(pair):
    """What is run in one order only."""
    one, other = (access_of(request, SCHEMA) for request in pair)
    assert independent(one, other)
    assert independent(other, one)


@pytest.mark.parametrize("pair", MAY_NOT.values(), ids=MAY_NOT)
def test_calls_that_may_not_be_swapped(pair):
    """An order that is left out is one that nobody has seen."""
    one, other = (access_of(request, SCHEMA) for request in pair)
    assert not independent(one, other)
    assert not independent(other, one)


DECLARED = replace(SCHEMA, rpcs={"touch": frozenset({S})})


def test_a_function_whose_tables_are_declared_may_be_swapped_with_what_is_in_others():
    """It may touch any row of the tables that were named, and of no other."""
    function, elsewhere = access_of(call("POST", "rpc/touch", {}), DECLARED), access_of(get(I), DECLARED)
    assert independent(function, elsewhere)
    assert independent(access_of(call("POST", "rpc/touch", {}), SCHEMA), elsewhere) is False


@pytest.mark.parametrize(
    "other", [BY_KEY, TOUCH, CREATE, LOG, call("POST", "rpc/touch", {}), call("POST", "rpc/x", {})]
)
def test_a_function_whose_tables_are_declared_touches_all_their_rows(other):
    """Its own table, a foreign key into it, itself, and whatever nobody declared."""
    assert not independent(access_of(call("POST", "rpc/touch", {}), DECLARED), access_of(other, DECLARED))


TRIGGERED = replace(SCHEMA, on_update={S: frozenset({"updated_at"})})
RENAME = patch(f"{S}?id=eq.{ONE}", {"user_id": "u"})


@pytest.mark.parametrize(
    ("other", "may"),
    [
        (TOUCH, False),
        (RENAME, False),
        (get(f"{S}?select=updated_at&id=eq.{ONE}"), False),
        (get(f"{S}?select=id&updated_at=lt.2020"), False),
        (get(f"{S}?select=id,created_at&id=eq.{ONE}"), True),
        (get(f"{S}?select=updated_at&id=eq.{TWO}"), True),
        (OTHERS_TOUCH, True),
        (LOG, True),
    ],
)
def test_a_trigger_that_is_known_writes_its_column_with_every_update(other, may):
    """It writes a column that the request does not name, of the row that the request names, and nothing else."""
    assert independent(access_of(RENAME, TRIGGERED), access_of(other, TRIGGERED)) is may


def test_a_trigger_that_is_known_is_none_of_an_insert():
    """It is BEFORE UPDATE; an insert writes the whole row anyhow, a deletion too."""
    for request in (CREATE, LOG, delete(f"{S}?id=eq.{ONE}"), BY_KEY, patch(f"{I}?id=eq.{I1}", {"response": "r"})):
        assert access_of(request, TRIGGERED) == access_of(request, SCHEMA)


def test_a_second_prefer_header_counts():
    """HTTP lets a list come in several lines, and whatever is shown was read."""
    headers = ((b"Prefer", b"return=representation"), (b"prefer", b"count=exact"))
    showing = Request("PATCH", f"/rest/v1/{S}?id=eq.{ONE}", headers, b'{"updated_at": "now"}')
    changing = patch(f"{S}?id=eq.{ONE}", {"user_id": "u"})
    assert not independent(access_of(showing, SCHEMA), access_of(changing, SCHEMA))


def test_the_two_tables_are_simple(database):
    """Pruning is worth nothing where everything counts as touched."""
    found = of_database.read(database)
    assert (found.keys[S], found.keys[I], found.references) == ("id", "id", SCHEMA.references)
    assert found.simple > {S, I}
    assert found.on_update == {S: {"updated_at"}}


OTHER_SOURCE = """CREATE OR REPLACE FUNCTION ai_sessions_touch() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN DELETE FROM ai_interactions; RETURN NEW; END'"""


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("CREATE TRIGGER t BEFORE UPDATE ON ai_sessions EXECUTE FUNCTION suppress_redundant_updates_trigger()", {I}),
        ("CREATE TRIGGER t AFTER UPDATE ON ai_sessions EXECUTE FUNCTION ai_sessions_touch()", {I}),
        ("ALTER TABLE ai_sessions DISABLE TRIGGER ai_sessions_touch", {I}),
        ("ALTER TRIGGER ai_sessions_touch ON ai_sessions RENAME TO another", {I}),
        (OTHER_SOURCE, {I}),
        ("CREATE POLICY p ON ai_sessions USING (EXISTS (SELECT FROM ai_interactions))", {I}),
        ("CREATE POLICY p ON ai_sessions FOR INSERT WITH CHECK (EXISTS (SELECT FROM ai_interactions))", {I}),
        ("CREATE POLICY p ON ai_sessions TO anon USING (user_id = 'u')", {I}),
        ("CREATE POLICY p ON ai_sessions AS RESTRICTIVE USING (false) WITH CHECK (true)", {S, I}),
        (
            "ALTER TABLE ai_sessions DISABLE ROW LEVEL SECURITY; CREATE POLICY p ON ai_sessions USING (id IS NULL)",
            {S, I},
        ),
        ("ALTER TABLE ai_sessions ADD CHECK (created_at <= updated_at)", {I}),
        ("ALTER TABLE ai_sessions ADD CHECK (lower(user_id) = user_id)", {I}),
        ("ALTER TABLE ai_sessions ADD CHECK (user_id <> '') NOT VALID", {I}),
        ("ALTER TABLE ai_sessions ADD CHECK (user_id IN ('a', 'b'))", {S, I}),
        ("CREATE RULE r AS ON DELETE TO ai_sessions DO INSTEAD NOTHING", {I}),
        ("ALTER TABLE ai_sessions ADD UNIQUE (user_id)", {I}),
        ("CREATE UNIQUE INDEX ON ai_sessions (lower(user_id)) WHERE user_id > ''", {I}),
        ("ALTER TABLE ai_sessions ADD EXCLUDE USING btree (user_id WITH =)", {I}),
        ("ALTER TABLE ai_sessions ADD number bigserial", {I}),
        ("ALTER TABLE ai_sessions ADD number int GENERATED ALWAYS AS IDENTITY", {I}),
        ("ALTER TABLE ai_sessions ADD shown text GENERATED ALWAYS AS (lower(user_id)) STORED", {I}),
        ("CREATE TABLE child () INHERITS (ai_sessions)", {I}),
        ("CREATE TABLE child (a uuid REFERENCES ai_sessions ON DELETE CASCADE, id int PRIMARY KEY)", {I}),
        ("CREATE TABLE child (a uuid REFERENCES ai_sessions ON UPDATE SET NULL, id int PRIMARY KEY)", {I}),
        ("CREATE VIEW seen AS TABLE ai_sessions", {S, I}),
        ("ALTER TABLE ai_sessions ALTER id SET DEFAULT gen_random_uuid(), ALTER created_at SET DEFAULT now()", {S, I}),
        ("ALTER TABLE ai_sessions ALTER updated_at SET DEFAULT timezone('utc', now())", {S, I}),
    ],
)
def test_a_table_where_a_call_reaches_further_is_not_simple(database, change, left):
    """Triggers and their like are seen by asking the database, not by knowing ours."""
    database.rows(change)
    assert of_database.read(database).simple & {S, I, "child"} == left
