"""Row level security through a real data API: a slice of the cells, with the keys and tokens that browsers have."""

import uuid

import pytest

from session_fix.rest.tokens import token
from session_fix.rollout import opting, options

OWN, OTHERS, NEW = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
INTERACTIONS = {OWN: str(uuid.UUID(int=11)), OTHERS: str(uuid.UUID(int=12))}
RIGHT, ROW = "42501", "return=representation"


@pytest.fixture(autouse=True)
def rows(database):
    """Put a session of Alice's and one of Bob's into the database, with an interaction each."""
    for session, user in ((OWN, "alice"), (OTHERS, "bob")):
        database.rows("INSERT INTO ai_sessions (id, user_id) VALUES (%s, %s)", session, user)
        interaction = "INSERT INTO ai_interactions (id, session_id, prompt, response) VALUES (%s, %s, 'p', 'r')"
        database.rows(interaction, INTERACTIONS[session], session)


@pytest.fixture
def owner_policies(database):
    """Add the option to the database."""
    opting.change(database.params, options.read(options.OWNER_POLICIES))


@pytest.fixture
def send(session_fix_stack, database, ask):
    """Return a function that does an operation on a table as the owner of a key, or of a token beside the anon key."""
    endpoint, keys = session_fix_stack.endpoint(database), session_fix_stack.keys

    def run(operation, table="ai_sessions", session=OWN, *, key=keys.anon, bearer=None, **headers):
        column = "id" if table == "ai_sessions" else "session_id"
        row = {"id": session} if table == "ai_sessions" else {"session_id": session, "prompt": "p", "response": "r"}
        if table == "ai_sessions":
            row["user_id"] = "bob" if session == OTHERS else "alice"
        method, query, body = {
            "select": ("GET", f"{column}=eq.{session}", None),
            "insert": ("POST", "", row),
            "update": ("PATCH", f"{column}=eq.{session}", {"created_at": "2020-01-01T00:00:00Z"}),
            "delete": ("DELETE", f"{column}=eq.{session}", None),
        }[operation]
        if bearer:
            headers |= {"apikey": key, "authorization": f"Bearer {bearer}"}
            key = None
        url = f"{endpoint.url}{endpoint.rest_path}/{table}?{query}"
        return ask(url, method, key=key, body=body, prefer=ROW, **headers)

    return run


@pytest.fixture
def signed(session_fix_stack):
    """Return a function that returns a token of the project's; skip where only the project can sign one."""
    if not (secret := session_fix_stack.keys.jwt_secret):
        pytest.skip("the project's secret is not known")
    return lambda **claims: token(secret, **({"sub": "alice", "role": "authenticated"} | claims))


FOUR = ("select", "insert", "update", "delete")
BOTH = ("ai_sessions", "ai_interactions")


@pytest.mark.parametrize("table", BOTH)
@pytest.mark.parametrize("operation", FOUR)
def test_as_shipped_browsers_are_refused(send, signed, database, operation, table):
    """Signed in or not: the backend's key is the only one that opens these tables."""
    for bearer in (None, signed()):
        answer = send(operation, table, bearer=bearer)
        assert (answer.status, answer.code) in {(401, RIGHT), (403, RIGHT)}
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(2,)]


@pytest.mark.usefixtures("owner_policies")
@pytest.mark.parametrize("table", BOTH)
@pytest.mark.parametrize("operation", ["select", "update", "insert"])
def test_the_backend_goes_on_as_before_with_the_option(send, session_fix_stack, database, operation, table):
    """Policies add up: what is for owners takes nothing from the service role."""
    if operation == "insert":
        database.rows("TRUNCATE ai_interactions")
        database.rows("DELETE FROM ai_sessions WHERE id = %s AND %s", OTHERS, table == "ai_sessions")
    answer = send(operation, table, OTHERS, key=session_fix_stack.keys.service_role)
    assert answer.status < 300, answer
    assert len(answer.body) == 1


@pytest.mark.usefixtures("owner_policies")
@pytest.mark.parametrize("table", BOTH)
@pytest.mark.parametrize("operation", ["select", "update", "insert", "delete"])
def test_an_owner_gets_at_own_rows(send, signed, database, operation, table):
    """Inserting gives the row back, which needs a policy for reading it, too."""
    if table == "ai_sessions" and operation in {"insert", "delete"}:
        database.rows("TRUNCATE ai_interactions")
        database.rows("DELETE FROM ai_sessions WHERE id = %s AND %s", OWN, operation == "insert")
    answer = send(operation, table, OWN, bearer=signed())
    assert answer.status < 300, answer
    assert len(answer.body) == 1


@pytest.mark.usefixtures("owner_policies")
@pytest.mark.parametrize("table", BOTH)
@pytest.mark.parametrize("operation", FOUR)
def test_an_owner_does_not_get_at_anothers_rows(send, signed, database, operation, table):
    """Nor learns that they are there: reading, changing and deleting find nothing, as if they were not."""
    before = database.rows("SELECT s, i FROM ai_sessions s JOIN ai_interactions i ON i.session_id = s.id ORDER BY 1")
    answer = send(operation, table, OTHERS, bearer=signed())
    assert answer.code == RIGHT if operation == "insert" else (answer.status, answer.body) == (200, [])
    after = database.rows("SELECT s, i FROM ai_sessions s JOIN ai_interactions i ON i.session_id = s.id ORDER BY 1")
    assert after == before


@pytest.mark.usefixtures("owner_policies")
@pytest.mark.parametrize("table", BOTH)
def test_the_anon_key_alone_is_refused_with_the_option(send, table):
    """Policies are for who is signed in."""
    assert send("select", table).code == RIGHT


@pytest.mark.usefixtures("owner_policies")
@pytest.mark.parametrize(
    ("claims", "statuses"),
    [
        ({"exp": 1}, {401}),
        ({"role": "nobody_of_this_name"}, {400, 401, 403}),
        ({"role": "postgres"}, {401, 403}),
        ({"role": "anon"}, {401, 403}),
    ],
)
def test_a_token_that_is_not_for_a_user_shows_no_row(send, signed, claims, statuses):
    """Expired, or for a role that the data API does not become, or that no policy is for."""
    answer = send("select", bearer=signed(**claims))
    assert answer.status in statuses, answer
    assert isinstance(answer.body, dict), answer


@pytest.mark.usefixtures("owner_policies", "signed")
@pytest.mark.parametrize("role", ["authenticated", "service_role"])
@pytest.mark.parametrize(
    "secret", ["wrong", "unsafe-secret-change-me", "super-secret-jwt-token-with-at-least-32-characters-long"]
)
def test_a_forged_token_shows_no_row(send, role, secret):
    """With another secret, or with one that everybody knows: a data API or the Supabase CLI has it by default."""
    answer = send("select", bearer=token(secret, sub="alice", role=role))
    assert answer.status == 401, answer
    assert isinstance(answer.body, dict), answer


@pytest.mark.usefixtures("owner_policies")
def test_an_unsigned_token_shows_no_row(send, signed):
    """The algorithm "none" is a signature that anybody can make. Source: RFC 7519, section 6."""
    head, payload, _ = signed(role="service_role").split(".")
    for unsigned in (f"eyJhbGciOiJub25lIn0.{payload}.", f"{head}.{payload}."):
        answer = send("select", bearer=unsigned)
        assert answer.status == 401, answer
        assert isinstance(answer.body, dict), answer


@pytest.mark.usefixtures("owner_policies", "signed")
def test_a_signed_in_client_of_supabase_py_reads_its_own(supabase):
    """What a browser's client does, with the library that the backend uses."""
    found = supabase.user("alice").table("ai_sessions").select("id").execute().data
    assert found == [{"id": OWN}]
