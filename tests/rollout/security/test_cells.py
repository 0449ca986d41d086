"""Every cell of every policy set is what was reviewed: ``cells/*.txt``, one line an operation."""

import psycopg
import pytest

SECTIONS = [
    *(("service", layer) for layer in ("as shipped", "grants alone", "policies alone")),
    *(("owner", layer) for layer in ("as shipped", "grants alone", "policies alone", "sessions open")),
    *(("mistakes", name) for name in ("row security off", "no policy", "USING (true)", "INSERT only")),
]
pytestmark = pytest.mark.database(scope="module")


@pytest.mark.parametrize(("policy_set", "layer"), SECTIONS)
def test_every_cell_is_as_reviewed(policy_set, layer, measured, expected):
    """A role that gets at one row more, or is kept from one of its own, shows as a line."""
    cells = measured(policy_set, layer)
    assert len(cells.of_the_eight) == 192
    assert str(cells) == expected(policy_set, layer)


@pytest.mark.parametrize(("policy_set", "layer"), SECTIONS[:7])
def test_a_login_in_service_role_may_do_the_same(policy_set, layer, measured):
    """Supabase's service_role bypasses policies, but a backend that connects with a login of its own does not."""
    outcomes = measured(policy_set, layer).outcomes
    backend = {cell[1:]: outcome for cell, outcome in outcomes.items() if cell[0] == "backend"}
    assert backend == {cell[1:]: outcome for cell, outcome in outcomes.items() if cell[0] == "service_role"}


def test_what_is_shipped_lets_anon_in_nowhere(measured):
    """The key of every browser: all its 64 cells are refused, whichever set is chosen."""
    for policy_set in ("service", "owner"):
        cells = measured(policy_set, "as shipped")
        assert {cells.outcomes[cell] for cell in cells.of_the_eight if cell[0] == "anon"} == {"42501"}


@pytest.mark.parametrize(
    ("claims", "outcome"),
    [
        (None, 0),
        ("", 0),
        ("{}", 0),
        ('{"sub": null}', 0),
        ('{"sub": ""}', 0),
        ('{"sub": "ALICE"}', 0),
        ('{"sub": "alice "}', 0),
        ('{"sub": ["alice"]}', 0),
        ('{"user_id": "alice"}', 0),
        ('["alice"]', 0),
        ('{"sub": "alice"', "22P02"),
        ('{"sub": "alice"}', 1),
    ],
)
def test_nothing_is_anybodys_without_a_sub(claims, outcome, prepared):
    """Where a token lacks it, or nobody set the claims, a session without a user must not become everybody's."""
    with prepared("owner", "as shipped") as connection:
        connection.execute("INSERT INTO public.ai_sessions (user_id) VALUES ('alice'), (NULL)")
        if claims is not None:
            connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
        connection.execute("SET LOCAL ROLE authenticated")
        try:
            with connection.transaction():
                found = connection.execute("SELECT FROM public.ai_sessions").rowcount
        except psycopg.errors.InvalidTextRepresentation as error:
            found = error.sqlstate
    assert found == outcome


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM public.ai_sessions",
        "SELECT * FROM public.ai_interactions WHERE session_id = (SELECT id FROM public.ai_sessions)",
    ],
)
def test_own_rows_are_found_by_an_index_and_the_claims_read_once(query, prepared):
    """Read once for each row, the claims take seconds in a large table, and Supabase gives a user eight."""
    with prepared("owner", "as shipped") as connection:
        connection.execute("CREATE INDEX ON public.ai_sessions (user_id)")
        connection.execute(
            "INSERT INTO public.ai_sessions (user_id) SELECT 'user-' || n FROM generate_series(1, 3000) n;"
            "INSERT INTO public.ai_interactions (session_id, prompt, response)"
            " SELECT id, 'p', 'r' FROM public.ai_sessions;"
            "ANALYZE public.ai_sessions, public.ai_interactions;"
            """SET LOCAL request.jwt.claims = '{"sub": "user-7"}'; SET LOCAL ROLE authenticated"""
        )
        plan = "\n".join(row for (row,) in connection.execute(f"EXPLAIN (COSTS OFF) {query}"))
    assert "InitPlan" in plan
    assert "Seq Scan" not in plan, plan
    assert "ai_sessions_user_id_idx" in plan, plan
