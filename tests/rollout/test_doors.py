"""Views and functions that lead past the policies are found in a real database, and no others are."""

# ruff: noqa: S608  the statements are made of constants
import pytest

AS_OWNER, PROCEDURAL = "LANGUAGE sql SECURITY DEFINER", "LANGUAGE plpgsql SECURITY DEFINER"
INVOKER = "WITH (security_invoker)"
COUNT = "'SELECT count(*) FROM public.ai_interactions'"
SAFE, PLAIN = "SET search_path = ''", "RETURNS bigint"
SHUT = "REVOKE EXECUTE ON FUNCTION f FROM PUBLIC"
READABLE = "GRANT SELECT ON v TO anon"
VIEW, DEFINER, OPEN = (
    "access/view-definer/public.v",
    "access/definer-search-path/public.f()",
    "access/definer-open/public.f()",
)

FOUND = [
    (f"CREATE VIEW v AS SELECT prompt FROM ai_interactions; {READABLE}", VIEW),
    (f"CREATE VIEW v WITH (security_invoker = off) AS SELECT 1 AS one FROM ai_sessions; {READABLE}", VIEW),
    ("CREATE VIEW v AS SELECT id FROM ai_sessions; GRANT SELECT (id) ON v TO authenticated", VIEW),
    ("CREATE VIEW v AS SELECT id FROM ai_sessions; GRANT DELETE ON v TO PUBLIC", VIEW),
    ("CREATE VIEW w AS SELECT id FROM ai_sessions; CREATE VIEW v AS TABLE w; GRANT SELECT ON v TO anon", VIEW),
    (
        f"CREATE VIEW w {INVOKER} AS TABLE ai_sessions; CREATE VIEW v AS TABLE w; GRANT SELECT ON v, w TO anon",
        VIEW,
    ),
    (f"CREATE MATERIALIZED VIEW v AS SELECT prompt FROM ai_interactions; {READABLE}", VIEW),
    (f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} AS {COUNT}", f"{DEFINER} {OPEN}"),
    (f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} {SAFE} AS {COUNT}", OPEN),
    (f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} AS {COUNT}; {SHUT}", DEFINER),
    (
        f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} {SAFE} BEGIN ATOMIC SELECT count(*) FROM ai_interactions; END",
        OPEN,
    ),
    (
        f"CREATE FUNCTION f() RETURNS trigger {PROCEDURAL} AS 'BEGIN DELETE FROM ai_sessions; RETURN NEW; END'",
        DEFINER,
    ),
]
NOT_FOUND = [
    f"CREATE VIEW v WITH (security_invoker = on) AS SELECT prompt FROM ai_interactions; {READABLE}",
    f"CREATE VIEW v WITH (security_invoker = 1) AS SELECT prompt FROM ai_interactions; {READABLE}",
    "CREATE VIEW v AS SELECT prompt FROM ai_interactions",
    "CREATE VIEW v AS SELECT prompt FROM ai_interactions; GRANT SELECT ON v TO service_role",
    f"CREATE TABLE other (id int); CREATE VIEW v AS TABLE other; {READABLE}",
    "CREATE SCHEMA app; CREATE VIEW app.v AS SELECT prompt FROM ai_interactions; GRANT SELECT ON app.v TO anon",
    f"CREATE FUNCTION f() {PLAIN} LANGUAGE sql AS {COUNT}",
    f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} {SAFE} AS {COUNT}; {SHUT}",
    f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} AS 'SELECT 1::bigint'",
    f"CREATE FUNCTION f() {PLAIN} {AS_OWNER} AS $$ SELECT /* ai_sessions */ 1::bigint -- ai_interactions $$",
    f"CREATE TABLE my_ai_sessions (); CREATE FUNCTION f() {PLAIN} {AS_OWNER} AS 'SELECT count(*) FROM my_ai_sessions'",
]


@pytest.mark.parametrize(("statement", "ids"), FOUND, ids=[one for one, _ in FOUND])
def test_a_way_past_the_policies_is_found(database, found, statement, ids):
    """Each lets anon at prompts, or a caller's own objects at the owner's rights, whatever the policies say."""
    database.rows(statement)
    assert set(found()) == set(ids.split())


@pytest.mark.parametrize("statement", NOT_FOUND)
def test_what_leads_nowhere_is_not_found(database, found, statement):
    """A finding about what is as it should be teaches people to look away."""
    database.rows(statement)
    assert found() == {}
