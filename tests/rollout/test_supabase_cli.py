"""The exported files, pushed by the Supabase CLI itself, leave what Alembic leaves; its advisors find nothing in that.

``supabase_cli/`` pins two majors of the CLI from the npm registry; no test touches Docker or the network beyond that.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from session_fix import cli, folders, schema
from session_fix.errors import NoRestError
from session_fix.rest import node
from session_fix.rollout import objects, revisions

SOURCES = Path(__file__).parent / "supabase_cli"
MAJORS = {"2": "node_modules/supabase/node_modules/@supabase", "3": "node_modules/@supabase"}
NEWEST = "3"
IDS = objects.revisions()
HEAD = IDS[-1]
INDEX = "ai_interactions_session_id_created_at_idx"
# No telemetry, and nobody's own settings: HOME is a folder of the test's.
QUIETLY = {"DO_NOT_TRACK": "1", "SUPABASE_TELEMETRY_DISABLED": "1", "SUPABASE_NO_UPDATE_NOTIFIER": "1"}


@pytest.fixture(scope="session")
def installed():
    """Return the folder with both CLIs, installed once into the user's cache; skip where npm cannot, but not in CI."""
    lock_file = (SOURCES / "package-lock.json").read_bytes()
    home = folders.cached(f"supabase-cli-{hashlib.sha256(lock_file).hexdigest()[:16]}")
    with folders.locked(home):
        if not (home / "finished").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(SOURCES / name, home / name)
            if why := why_not_installed(home):
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm cannot install the Supabase CLI: {why}")
            (home / "finished").touch()
    return home


def why_not_installed(home):
    """Let npm install what is locked; return why it could not, "" if it could."""
    try:
        found = node.find()
        command = [*found.npm, "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        env = os.environ | node.QUIETLY | {"PATH": f"{found.node.parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    except (NoRestError, OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr[-1000:] or f"exit code {done.returncode}"


@pytest.fixture
def major():
    """Return which CLI to run, unless the test says so."""
    return NEWEST


@pytest.fixture
def supabase_cli(installed, major, tmp_path):
    """Return a function that runs the CLI in a project of the test's, on a database; it returns the process."""
    programs = [*(installed / MAJORS[major]).glob("cli-*/bin/supabase")]
    if not programs:
        pytest.skip(f"the Supabase CLI {major} is not locked for this platform")
    (tmp_path / "home").mkdir()
    # The third leaves a library in the temporary folder, the same each time.
    env = {"PATH": os.defpath, "HOME": str(tmp_path / "home"), "TMPDIR": str(installed)} | QUIETLY

    def run(*words, on):
        where = ["--db-url", url(on.params)] if major == "2" else [f"--remote={url(on.params)}"]
        return subprocess.run(
            [programs[0], *words, *where, "--workdir", tmp_path],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def url(params):
    """Return a database as the CLI wants it: a URL, in which a socket's folder stands behind the question mark."""
    login = ":".join(quote(params[name], safe="") for name in ("user", "password") if name in params)
    is_socket = params["host"].startswith("/")
    host, query = ("localhost", f"host={params['host']}&") if is_socket else (params["host"], "")
    return f"postgresql://{login}@{host}:{params['port']}/{params['dbname']}?{query}sslmode=disable"


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


@pytest.fixture
def project(tmp_path):
    """Return a function that exports revisions into the project that the CLI works in; it returns the names."""
    folder = tmp_path / "supabase" / "migrations"

    def export(*options):
        words = ["migrate", "export", "--format", "supabase", "--output", str(folder), *options]
        done = CliRunner().invoke(cli.cli, words)
        assert done.exit_code == 0, done.output
        return sorted(path.name for path in folder.iterdir())

    return export


@pytest.fixture
def push(supabase_cli, empty):
    """Return a function that pushes what is exported onto the empty database, and returns the process."""
    return lambda: supabase_cli("db", "push", "--yes", on=empty)


def differs(database, revision):
    """Return in which objects a database differs from a revision."""
    with database.connect() as connection:
        return objects.difference(objects.read(connection), objects.of_revision(revision))


@pytest.mark.parametrize("major", MAJORS)
def test_a_push_leaves_what_alembic_leaves(project, push, supabase_cli, empty):
    """Object by object; the CLI notes each file, and finds nothing to do a second time."""
    names = project()
    done = push()
    assert done.returncode == 0, done.stderr
    assert differs(empty, HEAD) == {}
    assert empty.rows("SELECT to_regclass('public.alembic_version')") == [(None,)]
    listed = supabase_cli("migration", "list", on=empty).stdout
    assert re.findall(r"`(\d{14})` *\| `(\d{14})`", listed) == [(name[:14],) * 2 for name in names]
    again = push()
    assert (again.returncode, "up to date" in again.stdout + again.stderr) == (0, True), again


def test_a_push_goes_on_from_an_earlier_export(project, push, empty):
    """Rows stay as they are: the times are what they were in UTC, whatever the session's time zone; no file is new."""
    project("--to", "0002")
    assert push().returncode == 0
    empty.rows(f"ALTER DATABASE {empty.name} SET TimeZone TO 'Asia/Kolkata'")
    empty.rows("INSERT INTO ai_sessions VALUES (gen_random_uuid(), 'u', '2026-01-01 00:00', '2026-01-01 12:00')")
    files = "SELECT pg_relation_filenode('ai_sessions'), pg_relation_filenode('ai_interactions')"
    before = empty.rows(files)
    project()
    done = push()
    assert done.returncode == 0, done.stderr
    assert (differs(empty, HEAD), empty.rows(files)) == ({}, before)
    stored = "SELECT created_at = '2026-01-01 00:00Z', updated_at = '2026-01-01 12:00Z' FROM ai_sessions"
    assert empty.rows(stored) == [(True, True)]


def test_a_database_that_has_the_tables_gets_the_rest(project, push, empty):
    """Most have been there for years, made by hand: `--from` leaves out what they have.

    A file gives up when somebody holds its table for long, and nothing of it is done; another push goes on from there.
    """
    for statement in revisions.chain()[0].up.statements:
        empty.rows(statement)
    assert len(project("--from", "0001_baseline")) == len(IDS) - 1
    with empty.connect() as reader:
        reader.execute("SELECT FROM ai_sessions")
        done = push()
    assert (done.returncode, "SQLSTATE 55P03" in done.stderr) == (1, True), done
    assert differs(empty, "0002_api_grants") == {}
    done = push()
    assert (done.returncode, differs(empty, HEAD)) == (0, {}), done.stderr


def test_timeouts_hold_to_the_end_of_their_file_and_no_longer(project, push, empty, tmp_path):
    """What runs under another file's limits fails on a table that is large; what runs without one stalls everybody."""
    settings = "SELECT current_setting('lock_timeout') AS waits, current_setting('statement_timeout') AS runs"
    look = f"\nCREATE TABLE public.seen_{{}} AS {settings};\n"
    (before,) = empty.rows(settings)
    project("--to", "0012")
    for name, file in (("moment", "*1_0001_*"), ("long", "*_0010_*"), ("index", "*_0012_*")):
        (path,) = (tmp_path / "supabase" / "migrations").glob(file)
        path.write_text(path.read_text() + look.format(name))
    (path.parent / "20261122000013_own.sql").write_text(look.format("own"))
    done = push()
    assert done.returncode == 0, done.stderr
    seen = {name: empty.rows(f"SELECT * FROM seen_{name}")[0] for name in ("moment", "long", "index", "own")}  # noqa: S608
    assert seen == {"moment": ("1s", "15s"), "long": ("1s", "1h"), "index": ("0", "0"), "own": before}


def test_an_invalid_index_is_replaced(project, push, empty):
    """One is left by a build that was cut short, and IF NOT EXISTS would be content with it."""
    schema.migrate(empty.params, to="0010_foreign_key_validate")
    empty.rows(f"CREATE INDEX {INDEX} ON ai_interactions (created_at)")
    empty.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", INDEX)
    project("--from", "0010", "--to", "0011")
    done = push()
    assert done.returncode == 0, done.stderr
    assert differs(empty, "0011_interactions_session_index") == {}


@pytest.fixture
def advice(supabase_cli):
    """Return a function that returns what the CLI's advisors find in a database, INFO and above."""

    def ask(database):
        words = ("db", "advisors", "--level", "info", "--fail-on", "info", "--output-format", "json")
        done = supabase_cli(*words, on=database)
        found = [one["name"] for one in json.loads(done.stdout)["results"]]
        assert done.returncode == (1 if found else 0), done.stderr
        return found

    return ask


def use_the_indexes(database):
    """Read by each index once: that nobody has used it yet is true of every new one, and is a finding."""
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SELECT FROM ai_interactions WHERE session_id = gen_random_uuid()")
        connection.execute("SELECT FROM ai_sessions WHERE updated_at > now()")


def test_the_advisors_find_nothing(advice, database):
    """Keys, indexes, row security, policies, search paths: what Supabase shows its owner on the dashboard."""
    use_the_indexes(database)
    assert advice(database) == []


def test_the_advisors_find_what_is_wrong(advice, database):
    """The test above can fail, in each thing that we could have forgotten."""
    for statement in (
        "ALTER TABLE ai_sessions DISABLE ROW LEVEL SECURITY",
        f"DROP INDEX {INDEX}",
        "DROP POLICY ai_interactions_service_role ON ai_interactions",
        "ALTER FUNCTION ai_sessions_touch() RESET search_path",
        "CREATE INDEX twice ON ai_sessions (updated_at)",
    ):
        database.rows(statement)
    assert set(advice(database)) >= {
        "policy_exists_rls_disabled",
        "unindexed_foreign_keys",
        "rls_enabled_no_policy",
        "function_search_path_mutable",
        "duplicate_index",
        "unused_index",
    }
