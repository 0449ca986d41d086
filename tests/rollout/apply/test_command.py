"""The commands: what they print, how they end, and what a signal leaves behind."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.rollout import journal, objects
from session_fix.rollout import plan as plans

IDS = objects.revisions()
HEAD, BEFORE = IDS[-1], IDS[-2]
INDEX_STEP, INDEX = "0011_interactions_session_index", "ai_interactions_session_id_created_at_idx"
PROGRAM = Path(sys.executable).parent / "session-fix"


@pytest.fixture
def running(empty, tmp_path):
    """Return a function that starts a command of ``migrate`` on the test's database; it is killed with the block."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SESSION_FIX", "PYTEST"))}
    env |= {name: os.environ[name] for name in ("SESSION_FIX_POSTGRES_IMAGE",) if name in os.environ}

    @contextmanager
    def start(*arguments, params=None, **variables):
        process = subprocess.Popen(
            [PROGRAM, "migrate", *arguments],
            cwd=tmp_path,
            env=env | {"SESSION_FIX_DSN": make_conninfo(**params or empty.params)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


@pytest.fixture
def ended(running):
    """Return a function that runs a command to its end and returns its exit code, output and error output."""

    def run(*arguments, **options):
        with running(*arguments, **options) as process:
            said = process.communicate(timeout=200)
            return process.returncode, *said

    return run


@pytest.fixture
def plan_file(tmp_path, planned):
    """Return a function that writes a plan for a database and returns the file."""

    def write(database, target=HEAD):
        file = tmp_path / "plan.json"
        file.write_text(plans.written(planned(database, target)))
        return file

    return write


def test_a_plan_is_carried_out(at, ended, plan_file, tmp_path):
    """Results on standard output, progress on standard error, the same in JSON."""
    database = at(IDS[-3])
    code, out, err = ended("apply", plan_file(database), "--json", "done.json")
    assert code == 0, err
    assert "From 0016_updated_at_trigger to 0018_interactions_row_security: 2 steps, and read back." in out
    assert "Step 2 of 2: 0018_interactions_row_security, transaction ..." in err
    assert json.loads((tmp_path / "done.json").read_text())["after"] == HEAD
    code, out, _ = ended("apply", plan_file(database))
    assert (code, "nothing was left to do" in out) == (0, True)


def test_a_remote_database_takes_a_flag(at, ended, plan_file):
    """A DSN of somewhere else in the variable is the commonest of slips."""
    code, out, err = ended("apply", plan_file(at(BEFORE)), params={"host": "192.0.2.1", "dbname": "app"})
    assert (code, out) == (2, "")
    assert "--allow-remote" in err
    assert "it may be changed from here" in err


@pytest.mark.parametrize("text", [None, "{}", "\x00"])
def test_what_is_no_plan_is_refused(ended, tmp_path, text):
    """No file, or another one."""
    if text is not None:
        (tmp_path / "other").write_text(text)
    code, out, err = ended("apply", "other")
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_step_back_and_says_where_the_database_is(at, running, ended, plan_file, state_of, number):
    """Ctrl-C, or a pipeline that is cancelled, while the step waits for somebody who reads."""
    database = at(BEFORE)
    file = plan_file(database)
    before = state_of(database)[1:]
    with database.connect(application_name="a dump") as reading:
        reading.execute("SELECT FROM ai_interactions")
        with running("apply", file) as process:
            assert "Step 1 of 1" in process.stderr.readline()
            assert "a dump" in process.stderr.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    assert f"The database is at {BEFORE}, 0 of 1 steps are done. The same command goes on from there." in err
    assert state_of(database)[1:] == before
    assert ended("apply", file)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_index_says_that_it_is_invalid(at, running, ended, plan_file, number):
    """It cannot be rolled back; a rerun drops what is left and builds it anew."""
    database = at(IDS[9])
    file = plan_file(database, INDEX_STEP)
    with database.connect(application_name="left open") as old:
        old.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")
        with running("apply", file) as process:
            assert "Step 1 of 1" in process.stderr.readline()
            assert "left open" in process.stderr.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert f"{INDEX} is INVALID, a rerun sees to it" in err
    code, _, err = ended("apply", file)
    assert (code, "it is dropped" in err) == (0, True), err
    assert database.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", INDEX) == [(True,)]


@pytest.fixture
def api(session_fix_stack, session_fix_endpoint, empty):
    """Return the option that names the data API of the test's database, and the variable with its key."""
    key = session_fix_stack.keys.service_role
    return ["--api", session_fix_endpoint(empty).url], {"SUPABASE_SERVICE_ROLE_KEY": key}


def test_a_data_api_is_waited_for(at, ended, plan_file, api):
    """On the way up and down; its key is in no output, and goes to no proxy, of which nobody answers here."""
    option, variable = api
    variable |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    file = plan_file(at(BEFORE))
    for command in (["apply", file], ["rollback", "--to", BEFORE, "--unmeasured"]):
        code, out, err = ended(*command, *option, **variable)
        assert code == 0, err
        assert "The data API at 127.0.0.1" in err
        assert variable["SUPABASE_SERVICE_ROLE_KEY"] not in out + err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_data_api_is_waited_for(at, running, ended, plan_file, api, session_fix_stack, number):
    """The steps are done by then, and the same command only waits again; ours follows no NOTIFY."""
    option, variable = api
    file = plan_file(at(""))  # read by the data API before the first step, when there is no table
    with running("apply", file, *option, **variable) as process:
        for line in process.stderr:
            if "PGRST205" in line:
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    assert f"The database is at {HEAD}, 18 of 18 steps are done. The same command goes on from there." in err
    session_fix_stack.rest.close(option[1].rpartition("/")[2])
    assert ended("apply", file, *option, **variable)[0] == 0


@pytest.mark.parametrize("command", [["apply"], ["rollback", "--to", "0002_api_grants"]])
def test_a_data_api_that_cannot_be_asked_is_refused_first(at, ended, plan_file, api, state_of, command):
    """No key, another one, and a URL of another machine, before anything is changed."""
    option, _ = api
    database = at(BEFORE)
    told = [*command, plan_file(database)] if command == ["apply"] else [*command, "--unmeasured"]
    before = state_of(database)
    for url, key, said in [
        (option[1], "", "SUPABASE_SERVICE_ROLE_KEY"),
        (option[1], "another", "refuses the key: HTTP 401"),
        ("http://192.0.2.1", "another", "--allow-remote"),
        ("127.0.0.1", "another", "--api takes the URL"),
    ]:
        code, out, err = ended(*told, "--api", url, SUPABASE_SERVICE_ROLE_KEY=key)
        assert (code, out) == (2, ""), err
        assert said in err
    assert state_of(database) == before


def test_back_to_an_earlier_revision(at, ended, schema_of):
    """The way down is made of the same steps, and ends where the revision left the schema."""
    database = at(HEAD)
    code, out, err = ended("rollback", "--to", "0010_foreign_key_validate")
    assert code == 0, err
    assert "8 steps, and read back" in out
    wanted = objects.of_revision("0010_foreign_key_validate")
    assert objects.difference(schema_of(database), wanted, exact=False) == {}
    assert ended("rollback", "--to", "0010_foreign_key_validate")[:1] == (0,)


def test_a_rollback_that_loses_rows_says_how_many_and_stops(at, ended, state_of):
    """Nobody types base meaning 'and all my rows'."""
    database = at("0002_api_grants")
    database.rows("INSERT INTO ai_sessions (id) SELECT gen_random_uuid() FROM generate_series(1, 3)")
    before = state_of(database)
    code, out, err = ended("rollback", "--to", "base")
    assert (code, out) == (2, ""), err
    assert "the table ai_sessions, with 3 rows" in err
    assert "ai_interactions, with" not in err  # it is empty
    assert state_of(database) == before
    allowed = ("--allow", "revokes-backend-access")
    assert ended("rollback", "--to", "0001_baseline", *allowed)[0] == 0  # which keeps them
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(3,)]
    assert ended("rollback", "--to", "base", "--accept-data-loss")[0] == 0
    assert state_of(database)[2] == {}
    assert ended("rollback", "--to", "base")[0] == 0  # it is there already


def test_a_rollback_that_broke_off_goes_on(at, ended, planned):
    """Killed while it drops an index, it leaves a schema that is between two versions: no plan is made for that."""
    database = at(INDEX_STEP)
    plan = planned(database, IDS[9])
    with database.connect(autocommit=True) as connection:
        journal.begin(connection, plan, {})
        connection.execute(plan.steps[0].statements[0])
    code, out, err = ended("rollback", "--to", IDS[9])
    assert code == 0, err
    assert f"From {INDEX_STEP} to {IDS[9]}: 1 steps" in out


@pytest.mark.parametrize(("to", "said"), [("0019_none", "no revision 0019_none"), (HEAD, "older than")])
def test_a_rollback_goes_down_to_what_there_is(at, ended, to, said):
    """A slip in the name is said with the names that there are."""
    at(BEFORE)
    code, out, err = ended("rollback", "--to", to)
    assert (code, out) == (2, "")
    assert said in err
