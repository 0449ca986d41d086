"""Each finding, of facts that have it; a healthy database has none of them. No server: facts are values."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from session_fix.rollout import audit, objects, options, rows, wanted
from session_fix.rollout.found import (
    Column,
    Constraint,
    Count,
    Definer,
    Facts,
    Index,
    Policy,
    Table,
    Transaction,
    Trigger,
    Unseen,
    View,
)

REVISIONS = objects.revisions()
HEAD = objects.of_revision(REVISIONS[-1])
KEY = wanted.FOREIGN_KEY
SESSIONS, INTERACTIONS = wanted.TABLES
CHECKS = {check.name: check for check in rows.ROW_CHECKS}
SOURCES = Path(audit.__file__).parent
AREAS = "version|schema|rows|access|server|size"


BY_SESSION, BY_TIME = Index("by_session", ("session_id", "created_at")), Index("by_time", ("updated_at",))
OURS = Policy("ours", "*", frozenset({"service_role"}), "true", "true")


def table(name):
    """Return a table as the migrations leave it."""
    key = Constraint(f"{name}_pkey", "p", ("id",))
    return Table(
        name=name,
        columns=wanted.COLUMNS[name],
        constraints=(key, KEY) if name == INTERACTIONS else (key,),
        indexes=(Index(f"{name}_pkey", ("id",)), BY_SESSION if name == INTERACTIONS else BY_TIME),
        rows=10,
        total_bytes=8192,
        rights={role: rights for role, rights in wanted.RIGHTS.items() if rights},
        row_security=True,
        policies=(OURS,),
    )


HEALTHY = Facts(
    database="app",
    role="auditor",
    version="18.4",
    has_versions=True,
    versions=REVISIONS[-1:],
    tables={name: table(name) for name in wanted.TABLES},
    roles=frozenset(wanted.RIGHTS),
    usage=frozenset(wanted.RIGHTS),
    bypass=frozenset({"service_role"}),
    objects=HEAD,
    time_zones={"the database": "Etc/UTC"},
    counts={name: Count(0) for name in (*CHECKS, *rows.ORPHAN_COUNTS, *rows.PHANTOM_COUNTS)},
)
SIZES = {f"size/{name}" for name in wanted.TABLES}


def with_table(name=INTERACTIONS, **changes):
    """Return the healthy facts with one table changed."""
    return replace(HEALTHY, tables=HEALTHY.tables | {name: replace(HEALTHY.tables[name], **changes)})


def with_object(name, definition=None, versions=REVISIONS[-1:]):
    """Return the healthy facts with an object of another definition, or without it."""
    others = {other: text for other, text in HEALTHY.objects.items() if other != name}
    return replace(HEALTHY, objects=others | ({name: definition} if definition else {}), versions=versions)


def noted(revision, **changes):
    """Return the healthy facts as a revision leaves them, as far as objects go, and with that version."""
    return replace(HEALTHY, versions=(revision,), objects=objects.of_revision(revision), **changes)


def as_left_by(revision):
    """Return the tables as a revision leaves them: columns, checks that are not valid yet, row level security."""
    left = objects.of_revision(revision)

    def column(name, text):
        declared, _, default = text.partition(" DEFAULT ")
        bare = declared.removesuffix(" NOT NULL")
        return Column(name, bare, not_null=bare != declared, default=default or None)

    return {
        name: replace(
            one,
            columns={key: column(key, left[f"column {name}.{key}"]) for key in one.columns},
            constraints=(
                *one.constraints,
                *(
                    Constraint(key.rpartition(".")[2], "c", (), valid=not text.endswith("NOT VALID"))
                    for key, text in left.items()
                    if key.startswith(f"constraint {name}.") and text.startswith("CHECK")
                ),
            ),
            indexes=one.indexes if any("idx" in key for key in left if f" {name}." in key) else one.indexes[:1],
            row_security="row security" in left[f"table {name}"],
            policies=one.policies if f"policy {name}.{name}_service_role" in left else (),
        )
        for name, one in HEALTHY.tables.items()
    }


def with_column(place, **changes):
    """Return the healthy facts with one column changed; without it when nothing is said."""
    name, column = place.split(".")
    columns = dict(HEALTHY.tables[name].columns)
    found = columns.pop(column, Column(column, "text"))
    return with_table(name, columns=columns | ({column: replace(found, **changes)} if changes else {}))


def with_key(**changes):
    """Return the healthy facts with the foreign key changed."""
    return with_table(constraints=(HEALTHY.tables[INTERACTIONS].constraints[0], replace(KEY, **changes)))


def with_rights(role, *rights, **changes):
    """Return the healthy facts with a role's rights on the sessions changed."""
    return with_table(SESSIONS, rights=HEALTHY.tables[SESSIONS].rights | {role: frozenset(rights)}, **changes)


def with_count(**counts):
    """Return the healthy facts with other counts; two underscores stand for a slash, one for a hyphen."""
    named = {name.replace("__", "/").replace("_", "-"): Count(number) for name, number in counts.items()}
    return replace(HEALTHY, counts=HEALTHY.counts | named)


def policy(command="*", roles=("anon",), **conditions):
    """Return a policy of the sessions."""
    return Policy("all", command, frozenset(roles), **conditions)


BEFORE = {"versions": ("0002_api_grants",), "objects": objects.of_revision("0002_api_grants")}
CHECKED = "ai_interactions.ai_interactions_tokens_not_negative"
TOUCHED = "ai_sessions.ai_sessions_touch"
INDEXED = "ai_interactions.ai_interactions_session_id_created_at_idx"
TWO_COLUMNS = Constraint("both", "p", ("id", "user_id"))
FOUR = tuple(wanted.RIGHTS["service_role"])
ANON, BACKEND = frozenset({"anon", "service_role"}), frozenset({"service_role"})
LONG = Transaction(4711, 3600, "export", "idle in transaction")
CASES = [
    ("version/none", "problem", replace(HEALTHY, has_versions=False, versions=None)),
    ("version/empty", "problem", replace(HEALTHY, versions=())),
    ("version/several", "problem", replace(HEALTHY, versions=REVISIONS)),
    ("version/unknown", "problem", replace(HEALTHY, versions=("zzz",))),
    ("version/behind", "problem", replace(HEALTHY, **BEFORE)),
    (
        "schema/table-missing/ai_sessions version/untrue",
        "problem",
        replace(HEALTHY, tables={INTERACTIONS: table(INTERACTIONS)}),
    ),
    ("schema/not-a-table/ai_interactions", "problem", with_table(kind="v", constraints=())),
    ("schema/partitioned/ai_interactions", "warning", with_table(kind="p")),
    ("schema/column-missing/ai_sessions.user_id", "problem", with_column("ai_sessions.user_id")),
    ("schema/column-extra/ai_sessions.own", "info", with_column("ai_sessions.own", type="text")),
    ("schema/column-extra/ai_sessions.own", "problem", with_column("ai_sessions.own", not_null=True)),
    ("schema/type/ai_sessions.user_id", "warning", with_column("ai_sessions.user_id", type="text")),
    ("schema/type/ai_sessions.user_id", "problem", with_column("ai_sessions.user_id", type="uuid")),
    ("schema/nullable/ai_interactions.prompt", "problem", with_column("ai_interactions.prompt", not_null=False)),
    ("schema/not-null/ai_sessions.user_id", "problem", with_column("ai_sessions.user_id", not_null=True)),
    (
        "schema/not-null/ai_sessions.created_at schema/default/ai_sessions.created_at",
        "info",
        with_column("ai_sessions.created_at", not_null=True, default="LOCALTIMESTAMP"),
    ),
    ("schema/default/ai_sessions.user_id", "info", with_column("ai_sessions.user_id", default="'x'::text")),
    ("schema/primary-key/ai_sessions", "problem", with_table(SESSIONS, constraints=())),
    ("schema/primary-key/ai_sessions", "problem", with_table(SESSIONS, constraints=(TWO_COLUMNS,))),
    ("schema/foreign-key-missing", "problem", with_table(constraints=table(INTERACTIONS).constraints[:1])),
    (
        f"schema/foreign-key-missing schema/foreign-key-target/{KEY.name}",
        "problem",
        with_key(target="auth.sessions"),
    ),
    ("schema/foreign-key-action", "warning", with_key(on_delete="c")),
    ("schema/foreign-key-deferrable", "warning", with_key(deferrable=True)),
    ("schema/foreign-key-name", "info", with_key(name="fk_session")),
    (
        "schema/foreign-key-name version/behind",
        "problem",
        replace(with_key(name="fk_session"), **BEFORE),
    ),
    (f"schema/not-valid/{KEY.name}", "problem", with_key(valid=False)),
    (f"schema/not-enforced/{KEY.name}", "problem", with_key(valid=False, enforced=False)),
    ("schema/index-missing", "warning", with_table(indexes=())),
    ("schema/index-missing version/behind", "info problem", replace(with_table(indexes=()), **BEFORE)),
    ("schema/index-missing/updated_at", "warning", with_table(SESSIONS, indexes=())),
    (
        "schema/index-invalid/by_session schema/index-missing",
        "problem warning",
        with_table(indexes=(Index("by_session", ("session_id",), valid=False),)),
    ),
    (
        "schema/index-invalid/by_session schema/index-missing",
        "info warning",
        with_table(indexes=(Index("by_session", ("session_id",), valid=False, building=True),)),
    ),
    ("schema/trigger-disabled/ai_interactions/touch", "warning", with_table(triggers=(Trigger("touch"),))),
    (
        f"schema/trigger-disabled/ai_interactions/{KEY.name}",
        "problem",
        with_table(triggers=(Trigger("RI_ConstraintTrigger_c_1", KEY.name),)),
    ),
    (f"schema/check-missing/{CHECKED}", "warning", with_object(f"constraint {CHECKED}")),
    (f"schema/check-differs/{CHECKED}", "warning", with_object(f"constraint {CHECKED}", "CHECK ((tokens_used > 0))")),
    (f"schema/trigger-missing/{TOUCHED}", "warning", with_object(f"trigger {TOUCHED}")),
    (f"schema/trigger-differs/{TOUCHED}", "warning", with_object(f"trigger {TOUCHED}", "CREATE TRIGGER another")),
    (
        f"schema/in-the-way/{CHECKED} version/behind",
        "problem",
        replace(
            HEALTHY, versions=BEFORE["versions"], objects=BEFORE["objects"] | {f"constraint {CHECKED}": "CHECK (x)"}
        ),
    ),
    (
        f"schema/in-the-way/{INDEXED} version/behind",
        "problem",
        replace(
            HEALTHY, versions=BEFORE["versions"], objects=BEFORE["objects"] | {f"index {INDEXED}": "CREATE INDEX x"}
        ),
    ),
    ("schema/referenced", "info", replace(HEALTHY, referencing=("public.notes",))),
    ("rows/orphans", "problem", with_count(rows__orphans=2)),
    ("rows/phantoms", "problem", with_count(rows__phantoms=2)),
    ("rows/several-for-one-session", "warning", with_count(rows__several_for_one_session=2)),
    ("rows/empty-sessions", "info", with_count(rows__empty_sessions=2)),
    (
        "rows/duplicate-ids/ai_sessions",
        "problem",
        replace(HEALTHY, counts={"rows/duplicate-ids/ai_sessions": Count(1)}),
    ),
    *((name, "problem", replace(HEALTHY, counts={name: Count(1)})) for name in CHECKS),
    ("access/no-roles", "info", replace(HEALTHY, roles=frozenset(), usage=frozenset())),
    ("access/role-missing/anon", "warning", replace(HEALTHY, roles=HEALTHY.roles - {"anon"})),
    ("access/no-usage", "problem", replace(HEALTHY, usage=frozenset({"anon"}))),
    ("access/right-missing/service_role/ai_sessions", "problem", with_rights("service_role", *FOUR[:3])),
    ("access/right-extra/service_role/ai_sessions", "warning", with_rights("service_role", *FOUR, "TRUNCATE")),
    ("access/right-extra/anon/ai_sessions", "problem", with_rights("anon", "TRUNCATE")),
    ("access/right-extra/anon/ai_sessions", "warning", with_rights("anon", "SELECT")),
    (
        "access/right-extra/anon/ai_sessions access/row-security-off/ai_sessions",
        "problem",
        with_rights("anon", "SELECT", row_security=False, policies=()),
    ),
    (
        "access/right-extra/anon/ai_sessions access/policy-open/ai_sessions/all",
        "problem",
        with_rights("anon", "SELECT", policies=(OURS, policy(using="true"))),
    ),
    ("access/row-security-off/ai_sessions", "warning", with_table(SESSIONS, row_security=False, policies=())),
    (
        "access/row-security-off/ai_sessions version/behind",
        "info problem",
        replace(with_table(SESSIONS, row_security=False, policies=()), **BEFORE),
    ),
    ("access/policy-missing/ai_sessions", "warning", with_table(SESSIONS, policies=())),
    ("access/policy-missing/ai_sessions", "problem", replace(with_table(SESSIONS, policies=()), bypass=frozenset())),
    (
        "access/policy-missing/ai_sessions version/behind",
        "problem",
        replace(with_table(SESSIONS, policies=()), bypass=frozenset(), **BEFORE),
    ),
    (
        "access/policy-open/ai_sessions/all",
        "problem",
        with_table(SESSIONS, policies=(OURS, policy("a", check="true"))),
    ),
    (
        "access/policy-open/ai_sessions/all",
        "problem",
        with_table(SESSIONS, policies=(policy(roles=("PUBLIC",), using="(1 = 1)"),)),
    ),
    (
        "access/policies-idle/ai_sessions access/row-security-off/ai_sessions",
        "warning",
        with_table(SESSIONS, row_security=False, policies=(policy(using="(user_id = 'a'::text)"),)),
    ),
    ("access/view-definer/public.v", "problem", replace(HEALTHY, views=(View("public.v", roles=ANON),))),
    (
        "access/definer-search-path/f() access/definer-open/f()",
        "problem warning",
        replace(HEALTHY, definers=(Definer("f()", roles=ANON),)),
    ),
    ("access/definer-search-path/f()", "warning", replace(HEALTHY, definers=(Definer("f()", roles=BACKEND),))),
    ("access/definer-open/f()", "warning", replace(HEALTHY, definers=(Definer("f()", search_path=True, roles=ANON),))),
    ("access/secret-setting", "warning", replace(HEALTHY, settings=("app.jwt_secret",))),
    ("server/read-only", "warning", replace(HEALTHY, settings=("default_transaction_read_only",))),
    ("server/replication-role", "problem", replace(HEALTHY, settings=("session_replication_role",))),
    ("server/replica", "warning", replace(HEALTHY, replica=True)),
    ("server/replicas", "info", replace(HEALTHY, replicas=2)),
    ("server/time-zone", "warning", replace(HEALTHY, time_zones={"the database": "Europe/Berlin"})),
    ("server/pooler", "warning", replace(HEALTHY, pooler=("port 6543",))),
    ("server/long-transactions", "warning", replace(HEALTHY, transactions=(LONG,))),
]


def told(facts):
    """Return the findings by their ids, the sizes left out."""
    return {one.id: one for one in audit.judge(facts, REVISIONS).findings if one.id not in SIZES}


def test_a_healthy_database_has_no_finding():
    """Each case below changes one thing of it, so it is the good example of each."""
    assert told(HEALTHY) == {}
    assert audit.judge(HEALTHY, REVISIONS).verdict == "pass"


@pytest.mark.parametrize(
    ("ids", "severities", "facts"), CASES, ids=[f"{ids.split()[0]}-{severity.split()[0]}" for ids, severity, _ in CASES]
)
def test_one_change_is_one_finding(ids, severities, facts):
    """What is found is what was changed, as bad as that is, and nothing beside it."""
    found = told(facts)
    assert set(found) == set(ids.split())
    expected = severities.split() * (1 if " " in severities else len(found))
    assert [found[one].severity.value for one in ids.split()] == expected
    assert audit.judge(facts, REVISIONS).verdict == ("fail" if "problem" in expected else "pass")


def test_every_finding_has_its_case():
    """A finding that no test provokes may never be found."""
    sources = "".join(path.read_text() for path in (*SOURCES.glob("*_findings.py"), SOURCES / "rows.py"))
    known = {"/".join(one.split("/")[:2]) for one in re.findall(rf"f?\"((?:{AREAS})/[a-z-]+)", sources)}
    cases = {"/".join(one.split("/")[:2]) for ids, _, _ in CASES for one in ids.split()}
    assert known - cases == {"rows/all"}, "which is a count that others are held against, and no finding"


@pytest.mark.parametrize("policies", [
    (policy(using="(user_id = 'a'::text)"),),
    (policy(roles=("service_role",), using="true"),),
    (policy(using="true", permissive=False),),
    (policy("r", using="false", check="true"),),
])  # fmt: skip
def test_a_policy_that_holds_somebody_back_is_no_finding(policies):
    """Policies that name whose rows they are, restrict others or are for the backend are as they should be."""
    assert told(with_table(SESSIONS, policies=(OURS, *policies))) == {}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_that_is_behind_is_that_and_nothing_else(revision):
    """Sixteen revisions are one finding, which says what each would still change: not fifty."""
    found = told(noted(revision, tables=as_left_by(revision)))
    behind = REVISIONS[REVISIONS.index(revision) + 1 :]
    problems = {one.id for one in found.values() if one.severity != "info"}
    assert problems == ({"version/behind"} if behind else set()), found
    if behind:
        assert list(found["version/behind"].evidence) == list(behind)
        assert all(name in found["version/behind"].what for name in behind)


def test_what_a_pending_revision_would_still_change_is_told():
    """Whoever did half of it by hand sees which half."""
    by_hand = {"column ai_sessions.created_at": HEAD["column ai_sessions.created_at"]}
    told_of = told(replace(HEALTHY, versions=BEFORE["versions"], objects=BEFORE["objects"] | by_hand))["version/behind"]
    assert told_of.evidence["0003_sessions_timestamptz"] == ["column ai_sessions.updated_at"]
    assert told_of.evidence["0005_sessions_defaults"] == ["column ai_sessions.id", "column ai_sessions.updated_at"]
    assert "0003_sessions_timestamptz (column), 0004" in told_of.what
    assert "0005_sessions_defaults (2 columns)" in told_of.what
    assert "0007_merge_phantom_sessions, 0008" in told_of.what, "of rows, counts tell"
    there = told(replace(HEALTHY, versions=BEFORE["versions"]))["version/behind"]
    assert "0003_sessions_timestamptz (there already)" in there.what


@pytest.mark.parametrize("versions", [None, (), ("zzz",), REVISIONS])
def test_without_a_version_nothing_is_said_to_be_in_the_way(versions):
    """The schema may be one that is at its newest, and only nobody noted it."""
    found = told(replace(HEALTHY, versions=versions, has_versions=versions is not None))
    assert all(one.startswith("version/") for one in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"views": (View("public.v", invoker=True, roles=ANON), View("public.w", roles=BACKEND), View("public.x"))},
        {"definers": (Definer("f()", search_path=True, roles=BACKEND), Definer("g()", search_path=True))},
    ],
)
def test_a_view_or_function_that_opens_nothing_is_no_finding(changes):
    """A view with its reader's rights shows no more than the table does; what browsers may not use is the backend's."""
    assert told(replace(HEALTHY, **changes)) == {}


def test_what_an_option_grants_is_not_too_much():
    """As long as its policies are what they should be: they hold back what the grants let through."""
    option = options.of(options.OWNER_POLICIES)
    facts = with_rights("authenticated", *FOUR)
    facts = replace(facts, objects=HEAD | option)
    assert told(facts) == {}
    changed = replace(facts, objects=facts.objects | {"policy ai_sessions.ai_sessions_owner": "USING true"})
    assert "access/right-extra/authenticated/ai_sessions" in told(changed)


def test_a_stamp_without_tables_is_told_from_a_database_that_is_behind():
    """Alembic would report success and do nothing."""
    found = told(replace(HEALTHY, tables={}))
    assert "would do nothing" in found["version/untrue"].todo


@pytest.mark.parametrize(
    ("transactions", "shown"),
    [((replace(LONG, age_s=59),), None), ((LONG,) * 5, "..."), ((Transaction(None, 99, "", "prepared"),), "two-phase")],
)
def test_transactions_are_told_by_age(transactions, shown):
    """Short ones are what a database is for; of many, the oldest are enough to begin with."""
    found = told(replace(HEALTHY, transactions=transactions))
    assert (shown is None and not found) or shown in found["server/long-transactions"].what


@pytest.mark.parametrize(
    ("found", "asked", "wider"),
    [
        ("text", "character varying(50)", True),
        ("character varying", "character varying(50)", True),
        ("character varying(51)", "character varying(50)", True),
        ("character varying(49)", "character varying(50)", False),
        ("character(50)", "character varying(50)", False),
        ("bigint", "integer", True),
        ("smallint", "integer", False),
        ("numeric(3,0)", "integer", False),
        ("timestamp without time zone", wanted.MOMENT, False),
        ("date", wanted.MOMENT, False),
        ("character varying(9)", "text", False),
        ("text", "uuid", False),
    ],
)
def test_a_type_is_wider_when_it_holds_every_value(found, asked, wider):
    """Only then may it stay as it is."""
    assert objects.holds(found, asked) is wider


@pytest.mark.parametrize(("matters", "verdict"), [(True, "inconclusive"), (False, "pass")])
def test_what_was_not_seen_is_not_healthy(matters, verdict):
    """Nothing to repair is said of what was looked at only."""
    assert audit.judge(replace(HEALTHY, unseen=(Unseen("rows", "no right", matters),)), REVISIONS).verdict == verdict


def test_the_worst_comes_first():
    """Who reads the first lines only has read what matters."""
    facts = replace(with_count(rows__orphans=1), replicas=1, replica=True, settings=("app.api_key",))
    order = [one.severity for one in audit.judge(facts, REVISIONS).findings]
    assert order == sorted(order, key=["problem", "warning", "info"].index)
