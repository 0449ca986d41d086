"""What squawk says of every statement that a rollout sends, up and down; each exception stands here with its reason.

The parser behind it is PostgreSQL's grammar as squawk knows it, so that no regular expression guesses what is SQL.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from session_fix.rollout import export, revisions

SQUAWK = Path(sys.executable).parent / "squawk"
OLDEST = "15"  # of the versions of PostgreSQL that Supabase runs
CHAIN = revisions.chain()
FILES = {file.revision: file.text for file in (export.supabase(*one) for one in export.after(CHAIN, "", ""))}
TIMEOUTS = "SET lock_timeout = 1000;\nSET statement_timeout = 15000;\n"
BODY = re.compile(r"\bDO \$\$ BEGIN\b(.*?)\bEND \$\$", re.DOTALL)
BRANCH = re.compile(r"\bTHEN\b(.*?)\bEND IF\b", re.DOTALL)

AS_IT_IS = "the baseline is what the backend has always had; a table that is there cannot be wished another"
LATER = "made timestamptz by 0003_sessions_timestamptz and 0004_interactions_timestamptz"
NO_REWRITE = "in the time zone UTC, which the transaction sets, no row is rewritten: the catalog is all that changes"
UNDOES = "a downgrade takes away what its upgrade brought; it loses no row"
INVALID = "an index that is not valid is used by nobody; concurrently is not possible inside DO"
BOTH_TABLES = "to the state before there was anything; whoever goes there has been told that all rows are lost"

EXCEPTIONS = {
    ("0001_baseline", "up", "prefer-bigint-over-int"): AS_IT_IS,
    ("0001_baseline", "up", "prefer-text-field"): AS_IT_IS,
    ("0001_baseline", "up", "prefer-timestamp-tz"): LATER,
    ("0001_baseline", "down", "ban-drop-table"): BOTH_TABLES,
    ("0003_sessions_timestamptz", "up", "changing-column-type"): NO_REWRITE,
    ("0003_sessions_timestamptz", "down", "changing-column-type"): NO_REWRITE,
    ("0003_sessions_timestamptz", "down", "prefer-timestamp-tz"): UNDOES,
    ("0004_interactions_timestamptz", "up", "changing-column-type"): NO_REWRITE,
    ("0004_interactions_timestamptz", "down", "changing-column-type"): NO_REWRITE,
    ("0004_interactions_timestamptz", "down", "prefer-timestamp-tz"): UNDOES,
    ("0005_sessions_defaults", "down", "ban-drop-default"): UNDOES,
    ("0006_interactions_defaults", "down", "ban-drop-default"): UNDOES,
    ("0011_interactions_session_index", "up", "require-concurrent-index-deletion"): INVALID,
    ("0012_sessions_updated_at_index", "up", "require-concurrent-index-deletion"): INVALID,
    ("0013_sessions_checks", "down", "ban-drop-constraint"): UNDOES,
    ("0014_interactions_checks", "down", "ban-drop-constraint"): UNDOES,
    ("0016_updated_at_trigger", "down", "ban-drop-function"): UNDOES,
}


def squawk(text, *options):
    """Return what squawk prints of a text."""
    done = subprocess.run([SQUAWK, *options], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in {0, 1}, done.stderr  # 2: it does not know an option
    return done.stdout


def broken_rules(text, *, concurrently=False):
    """Return the rules that squawk sees broken: in the text, and in its DO bodies, each of which is a transaction."""
    inside = [branch for body in BODY.findall(text) for branch in BRANCH.findall(body)]
    found = _broken(text, *(() if concurrently else ("--assume-in-transaction",)))
    return found.union(*(_broken(TIMEOUTS + branch, "--assume-in-transaction") for branch in inside))


def _broken(text, *options):
    given = ("--reporter", "json", "--pg-version", OLDEST, "--include", "require-table-schema")
    return {one["rule_name"] for one in json.loads(squawk(text, *given, *options) or "[]")}


def kinds(text):
    """Return what kinds of statements a text consists of, as squawk's parser calls them."""
    return set(re.findall(r"^  ([A-Z_]+)@", squawk(text, "--debug", "parse"), re.MULTILINE)) - {"COMMENT", "WHITESPACE"}


def excepted(revision, direction):
    """Return the rules that one direction of a revision may break."""
    return {rule for id_, way, rule in EXCEPTIONS if (id_, way) == (revision.id, direction)}


@pytest.mark.parametrize("revision", CHAIN, ids=lambda one: one.id)
def test_the_way_up_breaks_no_rule_but_those_listed(revision):
    """As it is exported, timeouts included: what locks for long or rewrites a table shows before the night."""
    found = broken_rules(FILES[revision.id], concurrently=revision.up.concurrently)
    assert found == excepted(revision, "up")


@pytest.mark.parametrize("revision", [one for one in CHAIN if one.down.statements], ids=lambda one: one.id)
def test_the_way_down_breaks_no_rule_but_those_listed(revision):
    """It is used when something has gone wrong already."""
    statements = "".join(f"{statement};\n" for statement in revision.down.statements)
    assert broken_rules(TIMEOUTS + statements, concurrently=revision.down.concurrently) == excepted(revision, "down")


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX i ON public.ai_interactions (session_id)", "require-concurrent-index-creation"),
        ("ALTER TABLE public.a ADD FOREIGN KEY (b) REFERENCES public.b (id)", "adding-foreign-key-constraint"),
        ("ALTER TABLE public.ai_sessions ADD CONSTRAINT c CHECK (id IS NOT NULL)", "constraint-missing-not-valid"),
        ("ALTER TABLE public.ai_sessions ALTER COLUMN user_id SET NOT NULL", "adding-not-nullable-field"),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON public.t (c)", "ban-concurrent-index-creation-in-transaction"),
        ("ALTER TABLE ai_sessions ADD COLUMN note text", "require-table-schema"),
        ("BEGIN", "transaction-nesting"),
        ("COMMIT", "transaction-nesting"),
        ("DO $$ BEGIN IF true THEN ALTER TABLE public.t DROP COLUMN c; END IF; END $$", "ban-drop-column"),
    ],
)
def test_what_must_not_come_is_seen(statement, rule):
    """Each in a revision of its own would pass review on a tired day."""
    assert rule in broken_rules(f"{TIMEOUTS}{statement};\n")


def test_a_statement_without_timeouts_is_seen():
    """The role's own may be two minutes, or none."""
    statement = "ALTER TABLE public.ai_sessions ALTER COLUMN created_at SET DEFAULT now();"
    assert broken_rules(statement) == {"require-lock-timeout", "require-statement-timeout"}


FORBIDDEN = {"BEGIN", "COMMIT_TRANSACTION", "ROLLBACK_TRANSACTION", "LOCK", "SAVEPOINT_CREATE", "PREPARE_TRANSACTION"}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_for_the_cli_neither_locks_nor_ends_its_transaction(text):
    """The CLI notes a file in the same transaction: ended early, half of a file would be left without a note."""
    assert kinds(text)
    assert not kinds(text) & FORBIDDEN


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("LOCK TABLE public.t", "LOCK"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION", "BEGIN"),
        ("COMMIT", "COMMIT_TRANSACTION"),
        ("END", "COMMIT_TRANSACTION"),
        ("ROLLBACK", "ROLLBACK_TRANSACTION"),
        ("SAVEPOINT s", "SAVEPOINT_CREATE"),
        ("PREPARE TRANSACTION 'p'", "PREPARE_TRANSACTION"),
    ],
)
def test_a_statement_that_would_is_seen(statement, kind):
    """Wherever it stands; inside a comment or a literal it is none."""
    assert kind in kinds(f"SELECT 1;\n{statement};")
    assert kinds(f"-- {statement};\nSELECT '{statement.replace(chr(39), '')};';") == {"SELECT"}


def local_settings(statements):
    """Return those that set something for a transaction alone."""
    return [one for one in statements if "LOCAL_KW" in squawk(f"{one};", "--debug", "parse").split("\n  WHITESPACE")[0]]


@pytest.mark.parametrize("script", [script for one in CHAIN for script in (one.up, one.down) if script.concurrently])
def test_what_runs_outside_a_transaction_sets_nothing_for_one(script):
    """SET LOCAL is a warning there, and does nothing."""
    assert not local_settings(script.statements)


def test_set_local_is_seen():
    """The test above can fail; and where there is a transaction, SET LOCAL is what we use."""
    assert local_settings(["SET LOCAL lock_timeout = 0", "SET lock_timeout = 0"]) == ["SET LOCAL lock_timeout = 0"]
    assert any(local_settings(one.up.statements) for one in CHAIN)
