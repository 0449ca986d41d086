"""What each step really does, seen on a copy of the schema: locks, whole reads, rewrites, and whether it works at all.

The copy lies on a throwaway server of the same major version. The database itself is only read, by ``pg_dump``.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix import archives, connecting, settings
from session_fix.errors import EnvironmentUnavailableError, RolloutRefusedError
from session_fix.progress import SILENT, Progress
from session_fix.rollout import drift, objects, predict, target
from session_fix.rollout.plan import Kind, Lock, Step
from session_fix.rollout.standing import Standing
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS, TABLES, VERSION_TABLE
from session_fix.servers import Server, docker, embedded

TIMEOUT_MS = 30_000
POLL_S = 0.01
# Tables and their indexes, by OID, with the file that holds each and how often it was read.
RELATIONS = """
SELECT c.oid, format('%%s.%%s', n.nspname, c.relname), c.relkind IN ('r', 'p', 'm', 'v', 'f'),
    pg_relation_filenode(c.oid), CASE WHEN c.relkind = 'r' THEN pg_stat_get_numscans(c.oid) ELSE 0 END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'i', 'I') AND c.relname <> ALL(%s)
"""
# Also of what the step has dropped, which has no name any more.
LOCKS = """
SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND granted AND pid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
FLUSH = "SELECT pg_stat_force_next_flush()"
# Rows to be read and to be merged: a session in use, and what the broken backend stored beside it.
ROWS = (
    f"INSERT INTO public.{SESSIONS} (id, created_at, updated_at) VALUES (%(used)s, now(), now())",
    f"""INSERT INTO public.{INTERACTIONS} (id, session_id, prompt, response, created_at)
    VALUES (gen_random_uuid(), %(used)s, '', '', now())""",
    f"""INSERT INTO public.{SESSIONS} (id, user_id, created_at, updated_at)
    VALUES (gen_random_uuid(), %(used)s::text, now(), now())""",
)
USED = "5e55f1c5-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Copy:
    """A database with the schema of another, and what its server is."""

    params: Mapping[str, str] = field(repr=False)
    server: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation before a step."""

    name: str
    is_table: bool
    file: int | None
    scans: int


@contextmanager
def copied(
    params: Mapping[str, str],
    standing: Standing,
    *,
    major: int | None = None,
    server: Server | None = None,
    progress: Progress = SILENT,
) -> Iterator[Copy]:
    """Yield a copy of a database's schema on a throwaway server of ``major``, by default the database's own version.

    Raises ``EnvironmentUnavailableError`` when there is no such server, ``RolloutRefusedError`` when the copy is not
    the same in what concerns our tables, ``ArchiveError``.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="session-fix-")))
        with progress.step("Reading the schema"):
            origin = archives.write_schema(params, folder / "schema")
        if not server:
            with progress.step("Starting a server for a copy of the schema"):
                server = stack.enter_context(_server(major or origin.major))
        name = f"sf_copy_{secrets.token_hex(6)}"
        admin = stack.enter_context(
            connecting.connect(make_conninfo(**server.admin, dbname="postgres"), autocommit=True)
        )
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name)))
        stack.callback(admin.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        copy = Copy(server.admin | {"dbname": name}, f"{server.kind} PostgreSQL {server.version}")
        with progress.step("Copying the schema"):
            _fill(copy, folder / "schema", origin, standing)
        yield copy


@contextmanager
def _server(major: int) -> Iterator[Server]:
    if str(major) in embedded.INSTALLS:
        with embedded.start(version=str(major)) as (server, _):
            yield server
    elif why := docker.missing():
        raise EnvironmentUnavailableError(
            f"The steps are measured on a copy of the schema, on a server of the same version, but there is no "
            f"PostgreSQL {major} here: it comes with session-fix as {' and '.join(embedded.INSTALLS)} only, and {why} "
            "Or name another version with --postgres-version, or plan with --unmeasured, which predicts locks from the "
            "statements."
        )
    else:
        chosen = settings.load({}).postgres_image  # somebody's own, where it is of that version
        image = chosen if re.search(rf":{major}\b", chosen) else f"postgres:{major}"
        with docker.start(image=image) as (server, _):
            yield server


def _fill(copy: Copy, archive: Path, origin: archives.Origin, standing: Standing) -> None:
    refused = archives.read_schema(archive, origin, copy.params)
    with connecting.connect(make_conninfo(**copy.params), autocommit=True) as connection:
        if differ := objects.difference(objects.read(connection), standing.objects):
            raise RolloutRefusedError(
                "A copy of the schema is not the same, so nothing can be measured on it:\n"
                + "\n".join(f"  {line}" for line in drift.described(differ))
                + (f"\n{refused}" if refused else "")
                + "\n--unmeasured plans without a copy: locks are predicted from the statements."
            )
        if standing.tables == {*TABLES}:
            with suppress(psycopg.Error), connection.transaction():  # a table may ask for more than we know of
                connection.execute("SET LOCAL session_replication_role = replica")  # nobody's triggers
                for statement in ROWS:
                    connection.execute(statement, {"used": USED})
        for note in _version(standing):
            connection.execute(note)


def _version(standing: Standing) -> Iterable[sql.Composed]:
    """Yield what writes the version, which is a row and so in no schema."""
    for version in standing.binding.versions:
        yield sql.SQL("INSERT INTO public.{} VALUES ({})").format(sql.Identifier(VERSION_TABLE), sql.Literal(version))


def measured(steps: Iterable[Step], copy: Copy, *, progress: Progress = SILENT) -> tuple[Step, ...]:
    """Return the steps with what each did when they were carried out on the copy, one after the other.

    Raises ``RolloutRefusedError`` when one fails there.
    """
    done = []
    with ExitStack() as stack:
        runner = target.writing(copy.params, lock_timeout_ms=TIMEOUT_MS, statement_timeout_ms=TIMEOUT_MS)
        stack.enter_context(runner)
        observer = stack.enter_context(connecting.connect(make_conninfo(**copy.params), autocommit=True))
        for step in steps:
            with progress.step(f"Measuring {step.id}"):
                try:
                    done.append(_measured(step, runner, observer, copy))
                except psycopg.Error as error:
                    raise _fails(step, error) from None
    return tuple(done)


def _fails(step: Step, error: psycopg.Error) -> RolloutRefusedError:
    why = f"{error.sqlstate}, {error.diag.message_primary}" if error.sqlstate else type(error).__name__
    return RolloutRefusedError(
        f"On a copy of the schema, without its rows, the step {step.id} fails: {why}. It would fail here, too: "
        "something in this schema is in its way. Nothing was changed."
    )


def _measured(step: Step, runner: psycopg.Connection, observer: psycopg.Connection, copy: Copy) -> Step:
    if step.kind is Kind.REPAIR:
        return step
    before = _relations(observer)
    held: set[tuple[int, str]] = set()

    def look() -> None:
        held.update(observer.execute(LOCKS, (runner.info.backend_pid,)).fetchall())

    if step.kind is Kind.CONCURRENTLY:
        _concurrently(step, runner, observer, copy, look)
    else:
        with runner.transaction():
            for statement in step.statements:
                runner.execute(statement)
            look()
            for note in step.notes:
                runner.execute(note)
    runner.execute(FLUSH)
    after = _relations(observer)
    locks = [Lock(spelled(mode), before[oid].name) for oid, mode in held if oid in before and before[oid].is_table]
    now_named = {relation.name: relation for relation in after.values()}  # an index that is built anew has another OID
    pairs = [(was, now_named[was.name]) for was in before.values() if was.name in now_named]
    return dataclasses.replace(
        step,
        measured=predict.strongest(locks),
        rewrites=tuple(sorted(now.name for was, now in pairs if was.file != now.file)),
        scans=tuple(sorted(now.name for was, now in pairs if was.scans != now.scans)),
    )


def spelled(mode: str) -> str:
    """Return a lock's mode as SQL spells it: ``AccessExclusiveLock`` is ACCESS EXCLUSIVE."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return words.strip().upper()


def _relations(observer: psycopg.Connection) -> dict[int, Relation]:
    return {
        oid: Relation(*rest) for oid, *rest in observer.execute(RELATIONS, ([VERSION_TABLE, f"{VERSION_TABLE}_pkc"],))
    }


def _concurrently(
    step: Step, runner: psycopg.Connection, observer: psycopg.Connection, copy: Copy, look: Callable[[], None]
) -> None:
    """Carry out a statement that runs in several transactions: a writer makes it wait in the middle, and we look."""
    failed: list[psycopg.Error] = []

    def run() -> None:
        try:
            for statement in step.statements:
                runner.execute(statement)
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with connecting.connect(make_conninfo(**copy.params)) as writer:
        for table in TABLES:
            writer.execute(sql.SQL("LOCK TABLE public.{} IN ROW EXCLUSIVE MODE").format(sql.Identifier(table)))
        thread.start()
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while thread.is_alive() and time.monotonic() < deadline:
            if observer.execute(WAITS, (runner.info.backend_pid,)).fetchone() == (True,):
                look()
                break
            time.sleep(POLL_S)
        writer.rollback()
        thread.join()  # its own statement_timeout ends it
    if failed:
        raise failed[0]
    for note in step.notes:
        runner.execute(note)
