"""No secret in any output: a canary is put wherever one could be, and every command is run, well and badly."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from session_fix import schema
from session_fix.cli import cli

PROGRAM = Path(sys.executable).parent / "session-fix"
CANARY = "c4n4ry-5e55f1c5"
ROW = "r0wc4n4ry"
# How each command is called on a database; those that take none are in NO_DATABASE.
COMMANDS = {
    ("audit",): [],
    ("repair",): ["--apply"],
    ("migrate", "status"): [],
    ("migrate", "plan"): ["--output", "{folder}/plan.json"],
    ("migrate", "adopt"): ["--output", "{folder}/adopted.json"],
    ("migrate", "apply"): ["{folder}/plan.json", "--allow", "changes-rows"],
    ("migrate", "verify"): [],
    ("migrate", "rollback"): ["--to", "0002_api_grants"],
    ("migrate", "option"): ["owner-policies", "--apply"],
    ("migrate", "rehearse"): ["--dsn-variable", "SESSION_FIX_DSN", "--rows", "50"],
}
NO_DATABASE = {
    ("replay",): ["fixed", "--postgres", "external"],
    ("explore",): ["create-create", "--postgres", "external"],
    ("up",): ["--postgres", "external"],
    ("rerun",): ["nothing.json"],
    ("doctor",): [],
    ("cache",): [],
    ("migrate", "export"): ["--format", "sql", "--output", "{folder}/files"],
}
# None of them leads anywhere, each for a reason of its own.
BAD = {
    "nobody there": f"postgresql://postgres:{CANARY}@127.0.0.1:9/app",
    "nobody there, as keywords": f"host=127.0.0.1 port=9 dbname=app user=postgres password={CANARY}",
    "an @ that is not encoded": f"postgresql://postgres:x@{CANARY}@127.0.0.1:9/app",
    "a # that is not encoded": f"postgresql://postgres:x#{CANARY}@127.0.0.1:9/app",
    "a / that is not encoded": f"postgresql://postgres:x/{CANARY}@127.0.0.1:9/app",
    "a % that is not encoded": f"postgresql://postgres:x%{CANARY}@127.0.0.1:9/app",
    "a quote that is not closed": f"host=127.0.0.1 password='{CANARY}",
    "an unknown keyword": f"host=127.0.0.1 pasword={CANARY} dbname=app",
    "a port that is none": f"postgresql://postgres:{CANARY}@127.0.0.1:port/app",
    "no database": f"postgresql://postgres:{CANARY}@127.0.0.1:9",
    "another machine": f"postgresql://postgres:{CANARY}@db.example.org:5432/app",
    "an URL of another kind": f"https://user:{CANARY}@127.0.0.1/app",
}


# Data APIs that lead nowhere, {api} being one that does not know the canary.
BAD_APIS = {
    "another key": "{api}",
    "nobody there": "http://127.0.0.1:9",
    "another machine": "https://project.supabase.co",
    "a password in the URL": f"http://user:{CANARY}@127.0.0.1:9",
    "a key in the URL": f"http://127.0.0.1:9?apikey={CANARY}",
    "a port that is none": f"http://127.0.0.1:{CANARY}",
}


def leaves(command, path=()):
    """Yield the path of every command that does something."""
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from leaves(one, (*path, name))
    else:
        yield path


def test_every_command_is_tried():
    """A new one could print what the others do not."""
    assert set(leaves(cli)) == set(COMMANDS) | set(NO_DATABASE)


@pytest.mark.parametrize("dsn", BAD.values(), ids=BAD)
def test_a_dsn_that_leads_nowhere(dsn, tmp_path, monkeypatch):
    """It is what people paste into a ticket: the message, the traceback and the report of the run that failed."""
    monkeypatch.setenv("SESSION_FIX_DSN", dsn)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", CANARY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    for path, arguments in COMMANDS.items():
        told = [argument.format(folder=tmp_path) for argument in arguments]
        report = ["--json", str(tmp_path / "report.json")]
        for debug in ([], ["--debug"]):
            ended = CliRunner().invoke(cli, [*debug, *path, *told, *report])
            assert ended.exit_code != 0, path
            raised = "".join(traceback.format_exception(ended.exception)) if ended.exception else ""
            for text in (ended.output, raised):
                assert CANARY not in text, f"{' '.join(path)}: {text}"
    for file in tmp_path.rglob("*"):
        assert CANARY not in file.read_text()


@pytest.fixture
def production(session_fix_stack):
    """Yield a database of before the rollout whose rows are secrets, some of which a step refuses."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    schema.migrate(database.params, to="0002_api_grants")
    database.rows("ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey")
    database.rows("INSERT INTO ai_sessions (id, user_id) VALUES (gen_random_uuid(), %s)", ROW)
    database.rows(
        "INSERT INTO ai_interactions (id, session_id, prompt, response, model_used, tokens_used, created_at) "
        "SELECT gen_random_uuid(), gen_random_uuid(), %s, %s, %s, -n, now() FROM generate_series(1, 9) n",
        *[ROW] * 3,
    )
    yield database
    databases.drop(database)


def secret(database):
    """Return the password of a database: that of its server where there is one, else the canary."""
    return database.params.get("password") or CANARY


def run(database, folder, path, arguments):
    """Run a command on the database, with a canary for its password, and return its exit code and all it wrote."""
    told = [argument.format(folder=folder) for argument in arguments]
    dsn = make_conninfo(**database.params | {"password": secret(database)})
    env = {"PATH": "/usr/bin:/bin", "SESSION_FIX_DSN": dsn, "SUPABASE_SERVICE_ROLE_KEY": CANARY, "HOME": str(folder)}
    env |= {name: value for name, value in os.environ.items() if name.startswith(("DOCKER_", "TESTCONTAINERS_"))}
    env |= {name: os.environ[name] for name in ("SESSION_FIX_POSTGRES_IMAGE",) if name in os.environ}
    report = folder / f"{'-'.join(path)}.json"
    done = subprocess.run(
        [PROGRAM, *path, *told, "--json", report],
        env=env,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_rollout_from_its_beginning_to_a_row_that_is_refused(production, tmp_path):
    """PostgreSQL's own message quotes the row: 'Failing row contains (..., the prompt, ...)'."""
    codes, said = {}, ""
    for path in [("audit",), ("migrate", "plan"), ("migrate", "adopt"), ("migrate", "apply"), ("repair",)]:
        codes[path], text = run(production, tmp_path, path, COMMANDS[path])
        said += text
    for path in [("migrate", "status"), ("migrate", "verify"), ("migrate", "option"), ("migrate", "rollback")]:
        codes[path], text = run(production, tmp_path, path, COMMANDS[path])
        said += text
    assert codes["migrate", "apply"] == 1, said
    assert "23514" in said  # a negative number of tokens, in a row that holds secrets
    assert codes["audit",] == 1
    written = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.json")}
    assert "plan.json" in written
    for what, text in (written | {"said": said}).items():
        assert CANARY not in text, what
        assert secret(production) not in text, what
        assert ROW not in text, what


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
@pytest.mark.parametrize("url", BAD_APIS.values(), ids=BAD_APIS)
def test_a_data_api_that_leads_nowhere(production, session_fix_endpoint, tmp_path, monkeypatch, url, debug):
    """Its key comes from the environment; the URL is the operator's, and people put keys into those."""
    assert run(production, tmp_path, ("migrate", "plan"), COMMANDS["migrate", "plan"])[0] == 1
    monkeypatch.setenv("SESSION_FIX_DSN", make_conninfo(**production.params))
    for key in (CANARY, f"{CANARY}\n"):
        monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", key)
        for path in [("migrate", "apply"), ("migrate", "rollback")]:
            told = [argument.format(folder=tmp_path) for argument in COMMANDS[path]]
            told += ["--api", url.format(api=session_fix_endpoint(production).url)]
            ended = CliRunner().invoke(cli, [*debug, *path, *told])
            raised = "".join(traceback.format_exception(ended.exception)) if ended.exception else ""
            assert ended.exit_code != 0, path
            for text in (ended.output, raised):
                assert CANARY not in text, f"{' '.join(path)}: {text}"
