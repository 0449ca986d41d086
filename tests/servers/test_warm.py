"""A server from a kept cluster: the same as one initialised for the purpose, whatever became of the cache meanwhile."""

import json
import shutil
import subprocess
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from session_fix import folders, schema, states
from session_fix.databases import KEPT_RUN, Databases
from session_fix.progress import Progress
from session_fix.servers import clusters, embedded, warm

STATE = states.state("production_after_the_bug", size=20)
TEMPLATE = f"sf_{KEPT_RUN}_template"
SETTINGS_IN_FORCE = "SELECT name, setting, source FROM pg_settings WHERE setting NOT LIKE %s ORDER BY name"
ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
    rolconnlimit, rolpassword, rolvaliduntil, shobj_description(oid, 'pg_authid'),
    ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid)
FROM pg_authid r ORDER BY rolname
"""
DATABASES = """
SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, datistemplate, datallowconn,
    datconnlimit, datacl::text, datdba::regrole::text, shobj_description(oid, 'pg_database')
FROM pg_database ORDER BY datname
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keep the clusters of this module where nobody else's are."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_FIX_CACHE", str(folder))
        yield folder


def ask(admin, query, *values, dbname="postgres"):
    """Return the rows of one statement."""
    with psycopg.connect(**admin, dbname=dbname) as connection:
        return connection.execute(query, values or None).fetchall()


def origin(admin):
    """Return what every initdb makes anew: whoever has the same comes from the same."""
    return ask(admin, "SELECT system_identifier FROM pg_control_system()")


@contextmanager
def started(version="18", **options):
    """Yield libpq parameters of a warm server, and whether a cluster was made for it."""
    progress = Progress(quiet=True)
    with warm.start(version=version, progress=progress, **options) as (server, _):
        yield server.admin, any("Initialising" in step for step in progress.timings)


@pytest.fixture(scope="module", params=sorted(embedded.INSTALLS))
def cold_and_warm(request):
    """Start a server that was initialised for the purpose, and one of a kept cluster that is used again."""
    with ExitStack() as cleanup:
        server, _ = cleanup.enter_context(embedded.start(version=request.param))
        with Databases(server, run=KEPT_RUN, migrate=schema.migrate) as databases:
            databases.template()
        with started(request.param) as (_, made):
            assert made
        again, made = cleanup.enter_context(started(request.param))
        assert not made
        yield server.admin, again


def test_it_has_the_settings_of_a_cold_one(cold_and_warm):
    """A setting that only one of them has would make a test pass here and fail there."""
    cold, again = cold_and_warm
    here, there = (
        {row[0]: row for row in ask(admin, SETTINGS_IN_FORCE, f"%{admin['host']}%")} for admin in (cold, again)
    )
    assert here == there
    assert len(here) > 300, "the check has to see them"


def test_it_has_the_databases_and_roles_of_a_cold_one(cold_and_warm):
    """Encodings, rights and comments among them."""
    cold, again = cold_and_warm
    assert ask(again, ROLES) == ask(cold, ROLES)
    databases = ask(again, DATABASES)
    assert databases == ask(cold, DATABASES)
    (template,) = (row for row in databases if row[0] == TEMPLATE)
    assert template[1:6] == ("UTF8", "C", "C", "c", True)


def test_its_template_is_that_of_a_cold_one(cold_and_warm):
    """Every column, key, grant and revision, as PostgreSQL itself writes them down."""
    dumps = []
    for admin in cold_and_warm:
        ((version,),) = ask(admin, "SELECT split_part(current_setting('server_version'), '.', 1)")
        dump = embedded.binaries(version) / "pg_dump"
        command = [dump, "-h", admin["host"], "-p", admin["port"], "-U", admin["user"], "--inserts", TEMPLATE]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        dumps.append([line for line in text.splitlines() if "restrict " not in line])  # it draws a key for each dump
    assert dumps[0] == dumps[1]
    assert "INSERT INTO public.alembic_version" in "\n".join(dumps[0])


def test_its_version_is_the_one_asked_for(cold_and_warm):
    """Two entries in one cache must not be taken for each other."""
    cold, again = cold_and_warm
    assert ask(again, "SELECT version()") == ask(cold, "SELECT version()")


def test_all_that_start_from_one_cluster_come_from_one_initdb():
    """That is what is saved; and they are copies, of which none sees what happens in another."""
    with started() as (first, _), started() as (second, made):
        assert not made
        assert origin(first) == origin(second)
        with psycopg.connect(**first, dbname="postgres") as connection:
            connection.execute("CREATE TABLE only_here ()")
        assert ask(second, "SELECT to_regclass('only_here')") == [(None,)]
    with started() as (third, made):
        assert not made
        assert ask(third, "SELECT to_regclass('only_here')") == [(None,)]


def test_a_state_asked_for_is_in_it_and_not_filled_again():
    """Filling weeks of a bug takes its time, in every run of every worker."""
    with started(states=[STATE]) as (first, made):
        assert made
        there = ask(first, "SELECT datname, datistemplate FROM pg_database WHERE datname LIKE 'sf%%' ORDER BY 1")
    assert there == [(f"sf_{KEPT_RUN}_state_{STATE.label}", True), (TEMPLATE, True)]
    progress = Progress(quiet=True)
    with (
        warm.start(version="18", states=[STATE], progress=progress) as (server, _),
        Databases(server, run="0123abcd", migrate=schema.migrate) as databases,
    ):
        own = databases.clone(databases.template(STATE, progress=progress))
        assert own.template == there[0][0]
        assert own.rows("SELECT count(*) FROM ai_sessions") > [(0,)]
        assert databases.template() == TEMPLATE
        assert not [step for step in progress.timings if "Filling" in step or "Initialising" in step]
        assert {name for (name,) in databases.execute("SELECT datname FROM pg_database WHERE datname LIKE 'sf%%'")} == {
            own.name,
            *(name for name, _ in there),
        }


def test_a_state_not_asked_for_at_its_start_is_filled_in_it():
    """Somebody asks in the middle of a run, and the kept cluster must not learn of it."""
    before = {path: path.stat().st_size for path in clusters.kept()}
    with (
        warm.start(version="18", progress=Progress(quiet=True)) as (server, _),
        Databases(server, run="0123abcd", migrate=schema.migrate) as databases,
    ):
        assert databases.template(STATE) == f"sf_0123abcd_state_{STATE.label}"
    assert {path: path.stat().st_size for path in clusters.kept()} == before


def keys():
    """Return the keys of a cluster with nothing changed, and with everything changed that a caller may."""
    small, seeded = states.state(STATE.name, size=21), states.state(STATE.name, size=20, seed=1)
    chosen = [("18", []), ("16", []), ("18", [STATE]), ("18", [small]), ("18", [seeded]), ("18", [STATE, small])]
    return [json.dumps(warm._key(*which), sort_keys=True) for which in chosen]  # noqa: SLF001


def test_version_state_size_and_seed_tell_clusters_apart():
    """What is in one has to be what was asked for."""
    assert len(set(keys())) == 6


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [(embedded, "INITDB_OPTIONS", ("--locale=C",)), (embedded, "SETTINGS", {}), (warm, "API_ROLES", {})],
)
def test_what_this_package_decides_tells_clusters_apart(monkeypatch, where, name, value):
    """A new release must not start from what an older one made otherwise."""
    before = set(keys())
    monkeypatch.setattr(where, name, value)
    assert not before & set(keys())


def test_the_same_states_in_another_order_are_the_same_cluster():
    """Tests are collected in any order, and a shuffled run must not pay for it."""
    other = states.state("hand_made")
    with started(states=[STATE, other]) as (_, made):
        assert made
    with started(states=[other, STATE]) as (_, made):
        assert not made


def test_changed_migrations_make_a_cluster_of_their_own(tmp_path, monkeypatch):
    """Whoever edits a migration tests the edited one at the next run, without clearing anything."""
    with started() as (before, _):
        assert ask(before, "SELECT to_regclass('edited')", dbname=TEMPLATE) == [(None,)]
    changed = shutil.copytree(folders.bundled("migrations"), tmp_path / "migrations")
    bundled = folders.bundled
    monkeypatch.setattr(folders, "bundled", lambda name: changed if name == "migrations" else bundled(name))
    with started() as (_, made):
        assert not made, "where the folder lies is no reason"
    revision = changed / "versions/0002_api_grants.py"
    upgrade = 'def upgrade() -> None:\n    """Edited."""\n    op.execute("CREATE TABLE edited ()")\n'
    revision.write_text(f"{revision.read_text().partition('def upgrade')[0]}{upgrade}\n\ndef downgrade():\n    pass\n")
    with started() as (after, made):
        assert made
        assert ask(after, "SELECT to_regclass('edited') IS NULL", dbname=TEMPLATE) == [(False,)]


@pytest.mark.parametrize("template", ["template0", "template1"])
def test_what_a_start_does_not_look_at_is_there_when_it_is_over(template):
    """Databases are made from template1 and template0, which are unpacked last, while the server starts."""
    with warm.start(version="18", progress=Progress(quiet=True)) as (server, _):
        with psycopg.connect(**server.admin, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE made TEMPLATE {template}")
        with psycopg.connect(**server.admin, dbname="made") as connection:
            assert connection.execute("SELECT count(*) > 2000 FROM pg_proc").fetchall() == [(True,)]


def relcaches(data):
    """Return the files in which PostgreSQL keeps what connections would read from the catalog, by database."""
    return {path.parent.name: path for path in data.rglob("pg_internal.*")}


def test_no_first_connection_reads_the_catalog_again():
    """A start removes what would spare it that, and clones of a template without it would each pay for that."""
    with warm.start(version="18", states=[STATE], progress=Progress(quiet=True)) as (server, process):
        data = process.folder / embedded.DATA
        with psycopg.connect(**server.admin, dbname="postgres", autocommit=True) as connection:
            oids = dict(connection.execute("SELECT datname, oid::text FROM pg_database WHERE datallowconn"))
            connection.execute(f"CREATE DATABASE made TEMPLATE {TEMPLATE} STRATEGY file_copy")
            ((made,),) = connection.execute("SELECT oid::text FROM pg_database WHERE datname = 'made'").fetchall()
        found = relcaches(data)
        assert {path.name for path in found.values()} == {embedded.RELCACHE}
        assert found.keys() == {*oids.values(), made, "global"} - {oids["template1"]}


def test_its_catalogs_go_without_maps_and_its_states_do_not():
    """Each clone would copy them; but how PostgreSQL reads a state's tables is what a test may be about."""
    with warm.start(version="18", states=[STATE], progress=Progress(quiet=True)) as (server, process):
        name = f"sf_{KEPT_RUN}_state_{STATE.label}"
        (row,) = ask(server.admin, "SELECT oid FROM pg_database WHERE datname = %s", name)
        files = {path.name for path in (process.folder / embedded.DATA / f"base/{row[0]}").iterdir()}
        maps = {int(file.partition("_")[0]) for file in files if file.endswith(("_fsm", "_vm"))}
        ((sessions,),) = ask(server.admin, "SELECT pg_relation_filenode('ai_sessions')", dbname=name)
        assert sessions in maps
        assert min(maps) >= 16384
        with psycopg.connect(**server.admin, dbname="postgres", autocommit=True) as connection:
            connection.execute("VACUUM pg_class")
            assert connection.execute("SELECT pg_relation_size('pg_class', 'vm') > 0").fetchall() == [(True,)]
