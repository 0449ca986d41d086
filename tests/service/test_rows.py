"""The rows that the services write: whole, and at the moment that they mean on whatever server."""

import importlib.util

import pytest

from session_fix import folders

SESSION = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"
READ_AS = "SELECT extract(epoch FROM '{0}'::timestamptz), '{0}'::timestamp"


@pytest.fixture(scope="module")
def rows():
    """Return the module, loaded by its path: a service directory is no package."""
    path = folders.bundled("service") / "backend_common" / "rows.py"
    spec = importlib.util.spec_from_file_location("rows_of_the_services", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def times(rows):
    """Return every time that a service writes."""
    written = (rows.session_row(SESSION, None), rows.interaction_row(SESSION, "p", "r", None, None), rows.touched())
    return [value for row in written for column, value in row.items() if column.endswith("_at")]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_a_time_is_the_same_moment_whatever_the_servers_time_zone(database, rows, zone):
    """Without an offset, a server in Tokyo would take it for nine hours before; a column without a zone takes UTC's."""
    assert len(times(rows)) == 4
    for time in times(rows):
        seen = []
        for server in (zone, "UTC"):
            with database.connect(options=f"-c TimeZone={server}") as connection:
                seen.append(connection.execute(READ_AS.format(time)).fetchone())
        assert seen[0] == seen[1], time


def test_a_time_without_an_offset_would_be_misread(database, rows):
    """The check above can fail."""
    time = times(rows)[0].removesuffix("+00:00")
    with (
        database.connect(options="-c TimeZone=Asia/Tokyo") as there,
        database.connect(options="-c TimeZone=UTC") as here,
    ):
        assert there.execute(READ_AS.format(time)).fetchone() != here.execute(READ_AS.format(time)).fetchone()
