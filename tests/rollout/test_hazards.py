"""Each hazard has a step that has it, and one like it that has not."""

import dataclasses

import pytest

from session_fix.rollout import estimate, hazards, predict
from session_fix.rollout.found import Count, Facts, Table, Transaction
from session_fix.rollout.plan import Binding, Kind, Lock, Step
from session_fix.rollout.standing import Standing

SESSIONS = "public.ai_sessions"
FACTS = Facts(database="app", role="owner", version="18")
BINDING = Binding(system_identifier="7", database="app", server_version=180004, fingerprint="", versions=("x",))
STANDING = Standing(binding=BINDING, objects={"table ai_sessions": "table", "table ai_interactions": "table"})


def step(*statements, kind=Kind.TRANSACTION, name="one", **more):
    """Return a step."""
    return Step(id=name, title="", kind=kind, before="", after="", statements=statements, **more)


def having(**more):
    """Return a database of which these things are known."""
    return dataclasses.replace(STANDING, **more)


EXCLUSIVE, UPDATE = (Lock("ACCESS EXCLUSIVE", SESSIONS),), (Lock("SHARE UPDATE EXCLUSIVE", SESSIONS),)
REVOKE = step("REVOKE ALL ON public.ai_sessions FROM anon")
REVOKE_OURS = "REVOKE ALL ON public.ai_sessions FROM service_role"
GRANT_OURS = "GRANT SELECT ON public.ai_sessions TO service_role"
SECURE = step("ALTER TABLE public.ai_sessions ENABLE ROW LEVEL SECURITY")
CONVERT = step("ALTER TABLE public.ai_sessions ALTER COLUMN created_at TYPE timestamptz")
BUILD = step("CREATE INDEX CONCURRENTLY i ON public.ai_sessions (id)", kind=Kind.CONCURRENTLY)
REPAIR = step(kind=Kind.REPAIR, name="repair-orphans")


def held(role):
    """Return a database in which a role may read the sessions."""
    return having(rights={"ai_sessions": {role: frozenset({"SELECT"})}})


def counted(number, *, exact=True):
    """Return a database in which so many sessions are missing."""
    counts = {"rows/orphans/sessions": Count(number, exact=exact)}
    return having(facts=dataclasses.replace(FACTS, counts=counts))


def opened(age_s):
    """Return a database in which a transaction has been open for so long."""
    return having(facts=dataclasses.replace(FACTS, transactions=(Transaction(1, age_s, "", "idle in transaction"),)))


def zoned(**zones):
    """Return a database in which these time zones are set."""
    return having(facts=dataclasses.replace(FACTS, time_zones=zones))


BAD = {
    "rewrites-table": [(step(rewrites=(SESSIONS,)), STANDING)],
    "long-lock": [
        (step(scans=(SESSIONS,), measured=EXCLUSIVE), STANDING),
        (step(scans=(SESSIONS,), predicted=EXCLUSIVE), STANDING),
    ],
    "changes-rows": [
        (REPAIR, STANDING),
        (REPAIR, counted(1)),
        (REPAIR, counted(0, exact=False)),
        (step("INSERT INTO public.ai_sessions SELECT"), STANDING),
    ],
    "revokes-browser-access": [(REVOKE, held("anon")), (SECURE, held("authenticated"))],
    "revokes-backend-access": [(step(REVOKE_OURS), held("service_role")), (SECURE, having(others=("backend",)))],
    "drops-data": [
        (step("DROP TABLE ai_sessions"), STANDING),
        (step("ALTER TABLE ai_sessions DROP COLUMN user_id"), STANDING),
    ],
    "times-not-utc": [
        (CONVERT, zoned(**{"the role service_role": "Europe/Berlin", "the database": "UTC"})),
    ],
    "waits-for-old-transactions": [(BUILD, opened(hazards.LONG_S))],
}
GOOD = {
    "rewrites-table": [(CONVERT, STANDING)],
    "long-lock": [
        (step(scans=(SESSIONS,), measured=UPDATE), STANDING),
        (step(scans=("public.ai_interactions",), measured=EXCLUSIVE), STANDING),
        (step(measured=EXCLUSIVE), STANDING),
    ],
    "changes-rows": [(REPAIR, counted(0)), (REPAIR, having(objects={})), (CONVERT, STANDING)],
    "revokes-browser-access": [(REVOKE, STANDING), (REVOKE, held("service_role")), (SECURE, STANDING)],
    "revokes-backend-access": [(step(REVOKE_OURS, GRANT_OURS), held("service_role")), (step(REVOKE_OURS), STANDING)],
    "drops-data": [
        (step("DROP INDEX CONCURRENTLY i"), STANDING),
        (step("DROP TABLE IF EXISTS pg_temp.picked"), STANDING),
        (step("DROP TABLE ai_sessions"), having(objects={})),
    ],
    "times-not-utc": [
        (CONVERT, zoned(database="Etc/UTC")),
        (BUILD, zoned(database="Europe/Berlin")),
    ],
    "waits-for-old-transactions": [(BUILD, opened(1)), (CONVERT, opened(hazards.LONG_S)), (BUILD, STANDING)],
}


def _each(examples):
    return [pytest.param(name, *one, id=f"{name}-{n}") for name, some in examples.items() for n, one in enumerate(some)]


@pytest.mark.parametrize(("name", "found", "where"), _each(BAD))
def test_a_hazard_is_seen(name, found, where):
    """What is not named cannot be refused."""
    assert name in hazards.of(found, where)


@pytest.mark.parametrize(("name", "found", "where"), _each(GOOD))
def test_what_is_none_is_not_called_one(name, found, where):
    """Who is asked for everything allows everything."""
    assert name not in hazards.of(found, where)


def test_each_hazard_has_both_examples_and_says_what_to_do():
    """A rule without an example is one that nobody has seen work."""
    assert list(BAD) == list(GOOD) == [hazard.id for hazard in hazards.HAZARDS]
    assert all(hazard.effect and hazard.todo for hazard in hazards.HAZARDS)


def test_what_was_allowed_is_asked_for_no_more():
    """By its name, and no other."""
    assert hazards.not_allowed(("long-lock", "drops-data"), ["long-lock", "changes-rows"]) == ("drops-data",)


def sized(rows):
    """Return a database with so many rows in each table."""
    tables = {name: Table(name=name, rows=rows) for name in ("ai_sessions", "ai_interactions")}
    return having(facts=dataclasses.replace(FACTS, tables=tables))


def test_an_estimate_grows_with_what_is_read_and_never_without():
    """What only touches the catalog takes a moment on any table."""
    build = dataclasses.replace(BUILD, scans=(SESSIONS,))
    assert estimate.seconds(CONVERT, sized(10**9)) == estimate.seconds(CONVERT, sized(0)) == estimate.MOMENT_S
    assert estimate.seconds(build, sized(10**7)) > 9 * estimate.seconds(build, sized(10**6)) > 9
    assert estimate.statement_timeout_ms(Kind.CONCURRENTLY, 3600) > 3_600_000


EXAMPLES = {
    "alter-table": ("ALTER TABLE public.ai_sessions ALTER COLUMN id SET DEFAULT 1", "ACCESS EXCLUSIVE", False),
    "check": ("ALTER TABLE ai_sessions ADD CONSTRAINT c CHECK (true)", "ACCESS EXCLUSIVE", True),
    "set-not-null": ("ALTER TABLE ai_sessions ALTER COLUMN user_id SET NOT NULL", "ACCESS EXCLUSIVE", True),
    "foreign-key": (
        "ALTER TABLE ai_sessions ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES x (id) NOT VALID",
        *("SHARE ROW EXCLUSIVE", False),
    ),
    "foreign-key-checked": (
        "ALTER TABLE ai_sessions ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES x (id)",
        *("SHARE ROW EXCLUSIVE", True),
    ),
    "validate": ("ALTER TABLE ai_sessions VALIDATE CONSTRAINT c", "SHARE UPDATE EXCLUSIVE", False),
    "index": ("CREATE INDEX i ON public.ai_sessions (id)", "SHARE", True),
    "index-concurrently": ("CREATE INDEX CONCURRENTLY i ON ai_sessions (id)", "SHARE UPDATE EXCLUSIVE", True),
    "trigger": (
        "CREATE TRIGGER t BEFORE UPDATE ON public.ai_sessions EXECUTE FUNCTION f()",
        *("SHARE ROW EXCLUSIVE", False),
    ),
    "policy": ("CREATE POLICY p ON public.ai_sessions USING (true)", "ACCESS EXCLUSIVE", False),
    "drop-table": ("DROP TABLE ai_sessions", "ACCESS EXCLUSIVE", False),
    "truncate": ("TRUNCATE ai_sessions", "ACCESS EXCLUSIVE", False),
    "insert": ("INSERT INTO ai_sessions (id) VALUES ('')", "ROW EXCLUSIVE", False),
    "update": ("UPDATE ai_sessions SET user_id = ''", "ROW EXCLUSIVE", True),
    "delete": ("DELETE FROM ai_sessions", "ROW EXCLUSIVE", True),
    "select": ("SELECT FROM ai_sessions", "ACCESS SHARE", True),
    "select-and-lock": ("SELECT FROM ai_sessions s FOR KEY SHARE OF s", "ROW SHARE", True),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_rule_predicts_its_example_and_nothing_elsewhere(name):
    """Each is tried on a real server with the statements of the migrations; these are all that it knows."""
    statement, mode, scans = EXAMPLES[name]
    schema = predict.Schema(STANDING.objects)
    found = predict.predicted([statement], schema)
    assert found.locks == (Lock(mode, SESSIONS),)
    assert found.scans == ((SESSIONS,) if scans else ())
    assert predict.predicted([statement.replace("ai_sessions", "others")], schema) == predict.Prediction()


def test_each_rule_has_an_example_and_a_source():
    """A lock that is said to be taken is to be looked up somewhere."""
    assert list(EXAMPLES) == list(predict.sources())
    assert all(predict.sources().values())


def test_a_type_with_other_bytes_rewrites_and_one_with_the_same_does_not():
    """Between both kinds of timestamp nothing is rewritten in a session in UTC; every other change is taken for one."""
    objects = STANDING.objects | {"column ai_sessions.created_at": "timestamp without time zone NOT NULL"}
    schema = predict.Schema(objects)
    assert predict.predicted(CONVERT.statements, schema).rewrites == ()
    assert predict.predicted([CONVERT.statements[0].replace("timestamptz", "date")], schema).rewrites == (SESSIONS,)
