"""Revisions as files: the same each time, none overwritten unseen; and psql makes of them what Alembic does."""

import dataclasses
import datetime as dt
import json
import re
import subprocess

import pytest
from click.testing import CliRunner
from psycopg.pq import DiagnosticField

from session_fix import cli, folders, up
from session_fix.errors import UsageError
from session_fix.rollout import export, objects, revisions

CHAIN = revisions.chain()
IDS = [revision.id for revision in CHAIN]
HEAD = IDS[-1]
FILES = [export.supabase(*one) for one in export.after(CHAIN, "", "")]


@pytest.fixture
def exported(tmp_path):
    """Return a function that runs the command into a folder of the test's, and returns its result and the files."""
    folder = tmp_path / "migrations"

    def run(*options, form="supabase"):
        done = CliRunner().invoke(cli.cli, ["migrate", "export", "--format", form, "--output", str(folder), *options])
        return done, {path.name: path.read_text() for path in sorted(folder.glob("*"))}

    return run


def test_a_revision_has_the_same_file_each_time():
    """The CLI knows a file by the digits in its name: under other ones it would be applied again."""
    assert FILES[0].name == "20261122000001_0001_baseline.sql"
    assert [export.supabase(*one) for one in export.after(CHAIN, "", "")] == FILES
    assert [file.name for file in FILES] == sorted(file.name for file in FILES)


def test_a_name_counts_revisions_as_their_ids_do():
    """A revision that is put in between would shift the names of all behind it."""
    assert [int(file.name[8:14]) for file in FILES] == [int(file.revision[:4]) for file in FILES]


def test_a_day_is_in_the_name_and_nowhere_else():
    """A project with younger migrations of its own needs a later one."""
    number, revision = export.after(CHAIN, "", "")[2]
    file = export.supabase(number, revision, day=dt.date(2027, 1, 31))
    assert (file.name, file.text) == (f"20270131000003_{revision.id}.sql", FILES[2].text)


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_file_begins_with_what_it_is(file):
    """Who reviews it has nothing else in front of him."""
    comment = file.text.split("\n\n")[0]
    assert comment.startswith(f"-- {file.revision}\n")
    assert all(line.startswith("--") and len(line) <= 123 for line in comment.splitlines())
    assert "Blocks, up" in comment


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_file_has_its_own_timeouts(file):
    """Those of the role may be two minutes, for which everybody would stand behind it."""
    assert re.match(r"SET lock_timeout = 1000;\nSET statement_timeout = (15000|3600000);$", file.text.split("\n\n")[1])
    concurrently = "CONCURRENTLY" in file.text.split("\n\n")[-1]
    assert ("lock_timeout = 0" in file.text) == concurrently


@pytest.mark.parametrize(
    ("revision", "long"),
    [
        ("0007_merge_phantom_sessions", True),
        ("0009_repair_orphans", True),
        ("0010_foreign_key_validate", True),
        ("0015_checks_validate", True),
        ("0008_foreign_key_not_valid", False),
        ("0016_updated_at_trigger", False),
    ],
)
def test_only_what_reads_a_table_may_take_long(revision, long):
    """A minute under ACCESS EXCLUSIVE is an outage; a minute of VALIDATE is none."""
    assert ("statement_timeout = 3600000" in FILES[IDS.index(revision)].text) == long


def test_the_supabase_files_do_not_touch_alembics_table():
    """The CLI has a history of its own."""
    assert not [file.name for file in FILES if "alembic_version" in file.text]


def test_from_and_to_choose():
    """A database that has some of them needs the others; an id may be cut short as long as it means one."""
    assert [number for number, _ in export.after(CHAIN, "0001_baseline", "0004")] == [2, 3, 4]
    assert [one.id for _, one in export.after(CHAIN, IDS[-2], "")] == [HEAD]


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("0004", "0004", "does not come after"),
        ("0005", "0004", "nothing to export"),
        (HEAD, "", "nothing to export"),
        ("9", "", "is no revision"),
        ("", "00", "means 9 revisions"),
    ],
)
def test_what_cannot_be_chosen_is_said(start, end, says):
    """Whoever mistypes it must not get another selection."""
    with pytest.raises(UsageError, match=says):
        export.after(CHAIN[:9], start, end) if end == "00" else export.after(CHAIN, start, end)


def test_the_command_writes_each_file_and_says_so(exported, tmp_path):
    """What it says goes into a review."""
    done, files = exported("--json", str(tmp_path / "report.json"))
    assert (done.exit_code, files) == (0, {file.name: file.text for file in FILES})
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["written"] * len(FILES)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["revision"] for one in report["files"]] == IDS


def test_the_command_again_writes_nothing(exported):
    """It runs whenever a new version of session-fix comes."""
    exported("--to", "0003")
    done, files = exported("--to", "0004")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["unchanged"] * 3 + ["written"]
    assert len(files) == 4


def test_a_file_that_was_changed_is_not_overwritten(exported, tmp_path):
    """Somebody may have added a line for his own database; nothing else is written either."""
    exported("--to", "0002")
    changed = tmp_path / "migrations" / FILES[0].name
    changed.write_text("SELECT 1;\n")
    done, files = exported("--to", "0003")
    assert (done.exit_code, files[FILES[0].name], len(files)) == (2, "SELECT 1;\n", 2)
    assert FILES[0].name in done.stderr
    done, files = exported("--to", "0003", "--force")
    assert (done.exit_code, files[FILES[0].name], len(files)) == (0, FILES[0].text, 3)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_revision_is_not_written_under_two_days(exported, force):
    """The CLI would apply it twice."""
    _, before = exported("--date", "2027-01-31", "--to", "0002")
    done, files = exported(*force)
    assert (done.exit_code, files) == (2, before)
    assert "--date" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--from", "nonsense"),
        ("--from", "0004", "--to", "0003"),
        ("--date", "2027-13-01"),
        ("--json", "/nowhere/report.json"),
    ],
)
def test_bad_input_writes_nothing(exported, options):
    """Not even the folder."""
    done, files = exported(*options)
    assert (done.exit_code, files) == (2, {})


def test_a_day_is_refused_where_no_name_has_one(exported):
    """It would be ignored, and look as if it were not."""
    done, files = exported("--date", "2027-01-01", form="sql")
    assert (done.exit_code, files) == (2, {})


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    """A file of that name is in the way."""
    (tmp_path / "file").touch()
    options = ["--format", "sql", "--output", str(tmp_path / "file" / "below")]
    done = CliRunner().invoke(cli.cli, ["migrate", "export", *options])
    assert (done.exit_code, "below" in done.stderr) == (2, True), done.output


def test_the_lock_is_that_of_the_migrations():
    """Under another one, Alembic and psql would work side by side."""
    text = (folders.bundled("migrations") / "env.py").read_text()
    assert int(re.search(r"^LOCK = (\w+)", text, re.MULTILINE)[1], 16) == export.LOCK


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


@pytest.fixture
def psql(empty, session_fix_settings, tmp_path):
    """Return a function that runs files on the empty database by psql, until one fails; skip without a psql."""
    line = up.psql_line(session_fix_settings, empty)
    if "/psql" not in line:
        pytest.skip("this server comes without a psql")
    for revision in CHAIN:
        (tmp_path / f"{revision.id}.sql").write_text(export.sql(revision).text)

    def run(*ids):
        for one in ids:
            done = subprocess.run(
                ["/bin/sh", "-c", f"{line} --no-psqlrc --quiet --file={tmp_path / one}.sql"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode:
                break
        return done

    return run


def test_psql_leaves_what_alembic_leaves(psql, empty):
    """Object by object, and the version that Alembic goes on from."""
    done = psql(*IDS)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    with empty.connect() as connection:
        assert objects.difference(objects.read(connection), objects.of_revision(HEAD)) == {}
    assert empty.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([IDS[0], IDS[2]], "for a database at 0002_api_grants"),
        ([IDS[1]], "alembic_version"),
        ([IDS[0], IDS[0]], "already exists"),
        ([*IDS[:9], IDS[10]], "for a database at 0010_foreign_key_validate"),
    ],
    ids=["one left out", "the first left out", "twice", "one left out before an index"],
)
def test_psql_stops_on_a_database_of_another_version(psql, empty, ids, says):
    """The statements might go through all the same, and the note would change no row."""
    done = psql(*ids)
    assert (done.returncode, says in done.stderr) == (3, True), done.stderr
    noted = [] if ids[0] != IDS[0] else empty.rows("SELECT version_num FROM alembic_version")
    assert noted == [(one,) for one in ids[:-1][-1:]]
    with empty.connect() as connection:
        assert objects.read(connection) == (objects.of_revision(noted[0][0]) if noted else {})


def test_psql_stops_while_another_migration_is_under_way(psql, empty):
    """Two builds of an index on one table wait for each other for ever."""
    with empty.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", (export.LOCK,))
        done = psql(IDS[0])
    assert (done.returncode, "under way" in done.stderr) == (3, True), done.stderr
    assert empty.rows("SELECT to_regclass('public.ai_sessions')") == [(None,)]


def test_psql_replaces_an_invalid_index(psql, empty):
    """One is left by a build that was killed, and IF NOT EXISTS would be content with it."""
    before, build = IDS[9], IDS[10]
    assert psql(*IDS[: IDS.index(before) + 1]).returncode == 0
    index = "ai_interactions_session_id_created_at_idx"
    empty.rows(f"CREATE INDEX {index} ON ai_interactions (created_at)")
    empty.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", index)
    assert psql(build).returncode == 0
    with empty.connect() as connection:
        assert objects.difference(objects.read(connection), objects.of_revision(build)) == {}


def sent(database, file):
    """Send a file whole, which PostgreSQL runs as one implicit transaction; return the SQLSTATE of its failure."""
    with database.connect(autocommit=True) as connection:
        return connection.pgconn.exec_(file.text.encode()).error_field(DiagnosticField.SQLSTATE)


def test_a_file_is_one_transaction(empty):
    """Whatever sends it; but for those that build an index, which it refuses with nothing changed."""
    for file in FILES:
        if "CONCURRENTLY" in file.text:
            with empty.connect() as connection:
                before = objects.read(connection)
            assert sent(empty, file) == b"25001"
            with empty.connect() as connection:
                assert objects.read(connection) == before
                connection.autocommit = True
                connection.execute(CHAIN[IDS.index(file.revision)].up.statements[0])
        else:
            assert sent(empty, dataclasses.replace(file, text=f"{file.text}SELECT 1 / 0;")) == b"22012"
            assert sent(empty, file) is None, file.name  # all of it is new: what failed at its end left nothing
    with empty.connect() as connection:
        assert objects.difference(objects.read(connection), objects.of_revision(HEAD)) == {}
