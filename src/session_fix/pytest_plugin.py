"""The pytest plugin: options, fixtures (in ``fixtures/``), a failed test's record; its end is in ``pytest_summary``."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from session_fix import guard, settings
from session_fix.databases import Database
from session_fix.errors import SessionFixError, UsageError
from session_fix.events import Recorder
from session_fix.host import Service
from session_fix.settings import ISOLATIONS, POSTGRES_KINDS, REST_KINDS, Settings
from session_fix.stack import Stack
from session_fix.subjects import VARIANTS

pytest_plugins = [
    "session_fix.fixtures.stack",
    "session_fix.fixtures.database",
    "session_fix.fixtures.supabase",
    "session_fix.fixtures.service",
    "session_fix.fixtures.explore",
    "session_fix.pytest_summary",
]
ALEMBIC_FIXTURES = "session_fix.fixtures.alembic"

FLAGS = ("service", "postgres", "rest", "isolation", "durable", "keep_failed")
CHECKLIST = "session_fix_checklist"
DIAGRAM_WIDTH = 100
MARKER = (
    "session_fix(line, before=..., documented=..., otherwise=...): a checklist's line, and what variants must come to"
)
STATE_MARKER = "state(name, size=..., seed=...): what the test's database holds at its start, see fixtures/states"
DATABASE_MARKER = (
    "database(isolation='clone' | reset='truncate' | scope='class' | 'module' | 'session'): another way than the run's"
)
DATABASE = pytest.StashKey[tuple[Database, Stack]]()  # what a test had, for when it fails
STACK = pytest.StashKey[Stack]()  # of this process, once it is started
RECORD = pytest.StashKey[tuple[Recorder, list[Service]]]()  # what a test recorded, and with which services


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("session-fix", "session-fix: throwaway Supabase databases and the service under test")
    group.addoption("--session-fix-service", metavar="DIR", help="service directory under test, or a variant's name")
    group.addoption("--session-fix-postgres", choices=POSTGRES_KINDS, help="where PostgreSQL comes from")
    group.addoption("--session-fix-rest", choices=REST_KINDS, help="which data API stands before it")
    group.addoption("--session-fix-isolation", choices=ISOLATIONS, help="a private database is emptied, or dropped")
    group.addoption(
        "--session-fix-keep-failed", type=int, metavar="N", help="keep the databases of the last N failures"
    )
    group.addoption("--session-fix-durable", action="store_true", default=None, help="let PostgreSQL wait for the disk")


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker, and the fixtures that replace another plugin's."""
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist outlives a killed controller by up to 15 s
        guard.die_with_parent(signal.SIGKILL)
    for marker in (MARKER, STATE_MARKER, DATABASE_MARKER):
        config.addinivalue_line("markers", marker)
    config.pluginmanager.import_plugin(ALEMBIC_FIXTURES)  # after pytest-alembic, whose defaults they replace


def settings_of(config: pytest.Config) -> Settings:
    """Return which stack and service this run is on: options first, then the project's pyproject.toml."""
    flags = {name: config.getoption(f"session_fix_{name}") for name in FLAGS}
    try:
        return settings.load(flags, folder=config.rootpath)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> str:
    """Say which stack and service the fixtures would use, and what that does not wait for."""
    chosen = settings_of(config)
    service, durability = chosen.service or "fixed (ours)", "durable" if chosen.durable else "not durable"
    postgres = chosen.postgres if chosen.postgres == "external" else f"{chosen.postgres} ({durability})"
    return f"session-fix: service {service}, postgres {postgres}, rest {chosen.rest}, isolation {chosen.isolation}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``variant`` with each variant, or with the one service that was named."""
    if metafunc.definition.get_closest_marker("session_fix") and "variant" in metafunc.fixturenames:
        service = settings_of(metafunc.config).service
        metafunc.parametrize("variant", [service] if service else VARIANTS, scope="session")


@pytest.fixture
def expected(request: pytest.FixtureRequest, variant: str) -> Any:
    """Return what this test's ``session_fix`` marker says the variant must come to."""
    marker = request.node.get_closest_marker("session_fix")
    return marker.kwargs.get(variant, marker.kwargs["otherwise"])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a checklist line's result; show a failed test's record and what its services printed."""
    report = yield
    if report.when == "teardown" and (stack := item.config.stash.get(STACK, None)):
        _settle(stack, item, call, report)
    if report.when == "call" and (marker := item.get_closest_marker("session_fix")):
        parameters = getattr(item, "callspec", None)
        if parameters and "variant" in parameters.params:
            report.user_properties.append((CHECKLIST, [marker.args[0], parameters.params["variant"]]))
    if report.failed:
        report.sections.extend(_what_happened(item))
        if report.when != "teardown":  # when the database has gone
            report.sections.extend(_kept(item))
    return report


def _settle(stack: Stack, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Make the report of a test's end one of an error if the test did to the server what cannot be put back.

    That was asked when everything of the test had ended, and is answered while pytest makes the report.
    """
    try:
        stack.settle()
    except Exception as error:  # noqa: BLE001  whatever it is, it belongs in this test's report
        if report.failed:
            report.sections.append(("session-fix: the server", str(error)))
            return
        call.excinfo = pytest.ExceptionInfo.from_exception(error)
        failed = pytest.TestReport.from_item_and_call(item, call)
        report.outcome, report.longrepr = failed.outcome, failed.longrepr  # others may have added to the report


def _kept(item: pytest.Item) -> Iterator[tuple[str, str]]:
    limit = settings_of(item.config).keep_failed
    if DATABASE not in item.stash or not limit:
        return
    from session_fix import kept, up  # noqa: PLC0415  failures only

    database, stack = item.stash[DATABASE]
    yield (
        "session-fix: the database, as long as the test waits in --pdb",
        f"{up.psql_line(settings_of(item.config), database)}\n{stack.endpoint_if_started(database)}".rstrip(),
    )
    try:
        one = kept.keep(database, server=stack.databases.server, test=item.nodeid, limit=limit)
    except SessionFixError as error:
        yield "session-fix: the database was not kept", str(error)
        return
    if one:
        yield "session-fix: the database, kept", f"session-fix up --database {one.name}"


def _what_happened(item: pytest.Item) -> Iterator[tuple[str, str]]:
    if RECORD not in item.stash:
        return
    from session_fix.report import lanes  # noqa: PLC0415  failures only
    from session_fix.report.messages import messages  # noqa: PLC0415

    recorder, services = item.stash[RECORD]
    if drawn := messages(recorder.events()):
        yield "session-fix: what was recorded", "\n".join(line.plain for line in lanes.draw(drawn, width=DIAGRAM_WIDTH))
    for service in services:
        if printed := service.process.last_lines():
            yield f"session-fix: last lines of {service.directory.name}", printed
