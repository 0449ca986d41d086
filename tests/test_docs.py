"""What documents name has to be there: paths, commands, options, and CI files that their systems accept."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from session_fix import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SCHEMAS = {"github.yml": "vendor.github-workflows", "gitlab.yml": "vendor.gitlab-ci"}


def names(documents):
    """Return the documents as test parameters, each under its name."""
    return [pytest.param(document, id=str(document.relative_to(ROOT))) for document in documents]


@pytest.mark.parametrize("document", names(DOCUMENTS))
def test_links_lead_to_files(document):
    """A link that leads nowhere costs the reader's trust in the rest."""
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", names(DOCUMENTS))
def test_paths_in_backticks_exist(document):
    """Folders and files of this repository that a document names are there under that name."""
    named = re.findall(
        r"`((?:src|docs|migrations|fixtures|scenarios|service|tests|requirements)/[\w./-]*)`", document.read_text()
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def commands_in(text):
    """Return every ``session-fix`` command line of a document, split into words."""
    lines = re.findall(r"(?:^|`)session-fix ((?:[a-z]+)(?: [^`\n]*)?)", text, re.MULTILINE)
    return [line.replace("`", "").split() for line in lines]


def every_command(group=cli.cli, *above):
    """Return the commands by their words, those of groups among them, such as ``("migrate", "export")``."""
    found = {}
    for name, command in group.commands.items():
        found[*above, name] = command
        if isinstance(command, click.Group):
            found |= every_command(command, *above, name)
    return found


COMMANDS = every_command()


def named(words):
    """Return the words of the command that a line names, as many as there are of it, and the other words."""
    most = max((depth for depth in range(len(words) + 1) if tuple(words[:depth]) in COMMANDS), default=0)
    return tuple(words[:most]), words[most:]


@pytest.mark.parametrize("document", names(DOCUMENTS))
def test_commands_and_their_options_exist(document):
    """Every command line in a document is one that the program knows."""
    for line in commands_in(document.read_text()):
        name, words = named(line)
        assert name, f"there is no command {line[0]}"
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_documents_name_every_command():
    """A command that no document names is found by nobody."""
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    assert {named(line)[0] for line in commands_in(text)} >= {
        name for name, command in COMMANDS.items() if not isinstance(command, click.Group)
    }


@pytest.mark.parametrize("option", ["--session-fix-service", "--session-fix-postgres", "--session-fix-rest"])
def test_plugin_options_in_documents_exist(option, pytestconfig):
    """The options of the plugin that documents name are those that it has."""
    assert option in (ROOT / "docs" / "developer.md").read_text()
    assert pytestconfig.getoption(option.removeprefix("--").replace("-", "_"), default="missing") != "missing"


@pytest.mark.parametrize("file", SCHEMAS)
def test_ci_examples_are_what_their_systems_accept(file):
    """Somebody copies these files as they are."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[file], ROOT / "docs" / "ci" / file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_lint_refuses_a_wrong_file(tmp_path):
    """The lint above can fail."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((ROOT / "docs" / "ci" / "github.yml").read_text().replace("runs-on:", "runs-at:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS["github.yml"], wrong]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_help_of_every_command_fits_a_narrow_terminal():
    """Help is read in a split window more often than not."""
    for name, command in COMMANDS.items():
        context = click.Context(command, info_name=" ".join(name), terminal_width=60)
        assert max(map(len, command.get_help(context).splitlines())) <= 60
