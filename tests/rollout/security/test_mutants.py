"""Each grant and each policy is needed: whatever is changed of them, a cell shows it.

A mutant names the layer that it is looked at in, since grants and policies cover for each other as shipped, and one
cell that it turns red, as "role table operation whose: outcome -> outcome".
"""

import re

import pytest

TABLES = {"ai_sessions": "6", "ai_interactions": "3"}  # and how many rows there are
# What a privilege lets a role do to all rows of either table, without a WHERE, which would need SELECT as well.
DONE = {
    "SELECT": ("SELECT all", "6", "3"),
    "INSERT": ("INSERT", "1", "1"),
    "UPDATE": ("UPDATE all", "6", "3"),
    "DELETE": ("DELETE all", "23503", "3"),
    "TRUNCATE": ("TRUNCATE", "0A000", "ok"),
}
SHIPPED, GRANTS, POLICIES, SESSIONS_OPEN = "as shipped", "grants alone", "policies alone", "sessions open"
ME = "(SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')"
OWN = f"session_id IN (SELECT id FROM ai_sessions WHERE user_id = {ME})"  # noqa: S608  constants
pytestmark = pytest.mark.database(scope="module")


def too_much(policy_set, *roles, privileges=tuple(DONE)):
    """Yield a mutant for each privilege that a role must not have on a table."""
    for role in roles:
        seen = "anon" if role == "PUBLIC" else role
        for privilege in privileges:
            operation, *done = DONE[privilege]
            for table, outcome in zip(TABLES, done, strict=True):
                cell = f"{seen} {table} {operation} own: 42501 -> {outcome}"
                yield policy_set, GRANTS, f"GRANT {privilege} ON {table} TO {role}", cell


def too_little(policy_set, role):
    """Yield a mutant for each privilege that a role needs on a table."""
    for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        operation, *done = DONE[privilege]
        for table, outcome in zip(TABLES, done, strict=True):
            cell = f"{role} {table} {operation} own: {outcome} -> 42501"
            yield policy_set, GRANTS, f"REVOKE {privilege} ON {table} FROM {role}", cell


OF_EITHER_TABLE = """
service, as shipped: DROP POLICY {table}_service_role ON {table}
    => backend {table} SELECT own: 1 -> 0
service, as shipped: ALTER POLICY {table}_service_role ON {table} USING (false)
    => backend {table} UPDATE own: 1 -> 0
service, as shipped: ALTER POLICY {table}_service_role ON {table} WITH CHECK (false)
    => backend {table} INSERT own: 1 -> 42501
service, policies alone: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY
    => anon {table} SELECT own: 0 -> 1
service, policies alone: ALTER POLICY {table}_service_role ON {table} TO PUBLIC
    => anon {table} UPDATE own: 0 -> 1
service, policies alone: CREATE POLICY anybody ON {table} USING (true)
    => anon {table} SELECT all own: 0 -> {rows}
service, policies alone: CREATE POLICY anybody ON {table} FOR INSERT WITH CHECK (true)
    => anon {table} INSERT own: 42501 -> 1
owner, as shipped: DROP POLICY {table}_owner ON {table}
    => authenticated {table} SELECT own: 1 -> 0
owner, as shipped: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY
    => authenticated {table} SELECT other's: 0 -> 1
owner, as shipped: ALTER POLICY {table}_owner ON {table} USING (true)
    => authenticated {table} SELECT null: 0 -> 1
owner, as shipped: ALTER POLICY {table}_owner ON {table} WITH CHECK (true)
    => authenticated {table} INSERT other's: 42501 -> 1
"""
OF_ONE = f"""
owner, policies alone: ALTER POLICY ai_sessions_owner ON ai_sessions TO PUBLIC
    => anon ai_sessions SELECT own: 0 -> 1
owner, sessions open: ALTER POLICY ai_interactions_owner ON ai_interactions TO PUBLIC
    => anon ai_interactions SELECT own: 0 -> 1
owner, sessions open: ALTER POLICY ai_interactions_owner ON ai_interactions USING (session_id IN (SELECT id FROM ai_sessions))
    => authenticated ai_interactions SELECT other's: 0 -> 1
owner, as shipped: DROP POLICY ai_sessions_owner ON ai_sessions; CREATE POLICY inserts ON ai_sessions FOR INSERT TO authenticated WITH CHECK (user_id = {ME})
    => authenticated ai_sessions INSERT RETURNING own: 1 -> 42501
owner, as shipped: ALTER POLICY ai_sessions_owner ON ai_sessions USING (user_id IS NULL OR user_id = {ME})
    => authenticated ai_sessions SELECT null: 0 -> 1
owner, as shipped: ALTER POLICY ai_sessions_owner ON ai_sessions WITH CHECK (user_id IS NULL OR user_id = {ME})
    => authenticated ai_sessions INSERT null: 42501 -> 1
owner, as shipped: ALTER POLICY ai_interactions_owner ON ai_interactions WITH CHECK (session_id IS NULL OR {OWN})
    => authenticated ai_interactions INSERT no session own: 42501 -> 23502
owner, as shipped: ALTER POLICY ai_interactions_owner ON ai_interactions WITH CHECK (true)
    => authenticated ai_interactions INSERT missing: 42501 -> 23503
service, as shipped: CREATE VIEW prompts AS SELECT * FROM ai_interactions; GRANT SELECT ON prompts TO anon
    => anon ai_interactions through prompts own: 42501 -> 3
owner, as shipped: CREATE VIEW mine AS SELECT * FROM ai_sessions; GRANT SELECT ON mine TO authenticated
    => authenticated ai_sessions through mine own: 42501 -> 6
service, as shipped: CREATE FUNCTION prompts() RETURNS SETOF ai_interactions LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM ai_interactions'
    => anon ai_interactions through prompts() own: 42501 -> 3
"""  # noqa: E501, S608  statements of one line each


def written(text):
    """Yield the mutants of a text."""
    yield from re.findall(r"^(\w+), ([\w ]+): (.+)\n    => (.+)$", text, re.MULTILINE)


MUTANTS = [
    *too_much("service", "anon", "authenticated", "PUBLIC"),
    *too_much("service", "service_role", privileges=["TRUNCATE"]),
    *too_little("service", "service_role"),
    *too_much("owner", "anon"),
    *too_much("owner", "authenticated", privileges=["TRUNCATE"]),
    *too_little("owner", "authenticated"),
    *(one for table, rows in TABLES.items() for one in written(OF_EITHER_TABLE.format(table=table, rows=rows))),
    *written(OF_ONE),
]


@pytest.mark.parametrize(
    ("policy_set", "layer", "change", "cell"), MUTANTS, ids=[f"{one[0]}: {one[2]}" for one in MUTANTS]
)
def test_a_mutant_turns_a_cell_red(policy_set, layer, change, cell, measured, baseline):
    """A grant or policy that can be changed unnoticed is one that nobody needs, or that no test looks after."""
    only = tuple(cell.split()[:2])
    changed = baseline(policy_set, layer).different(measured(policy_set, layer, change, only=only))
    assert cell in {f"{' '.join(one)}: {before} -> {after}" for one, (before, after) in changed.items()}, changed


@pytest.mark.parametrize("change", [
    "CREATE VIEW prompts WITH (security_invoker) AS SELECT * FROM ai_interactions; GRANT SELECT ON prompts TO anon",
    "CREATE FUNCTION prompts() RETURNS SETOF ai_interactions LANGUAGE sql AS 'SELECT * FROM ai_interactions'",
    "ALTER TABLE ai_sessions FORCE ROW LEVEL SECURITY; ALTER TABLE ai_interactions FORCE ROW LEVEL SECURITY",
    "CREATE POLICY nobody ON ai_sessions TO anon USING (false)",
])  # fmt: skip
def test_what_opens_nothing_turns_no_cell_red(change, measured, baseline):
    """Else a red cell would say nothing. FORCE binds the owner of a table, who is none of the roles."""
    assert baseline("service", "as shipped").different(measured("service", "as shipped", change)) == {}


@pytest.fixture
def baseline(measured, kept={}):  # noqa: B006  measured once a run: it is the same for each mutant
    """Return a function that returns the cells of a section as they are without a mutant."""

    def look(policy_set, layer):
        if (policy_set, layer) not in kept:
            kept[policy_set, layer] = measured(policy_set, layer)
        return kept[policy_set, layer]

    return look
