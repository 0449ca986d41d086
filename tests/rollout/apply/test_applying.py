"""A plan is carried out, exactly that one, and what is there at the end was read back."""

import dataclasses

import pytest

from session_fix.errors import MigrationIncompleteError, StepFailedError
from session_fix.rollout import journal, objects
from session_fix.rollout.happening import Begun, Done, Said



def read(database):
    """Return the schema as it is."""
    with database.connect() as connection:
        return objects.read(connection)


def test_an_empty_database_reaches_the_head(at, applied, events):
    """The whole way up; each step is told when it begins and when it is done."""
    database = at("")
    done = applied(planned(database.params), database)
    assert objects.difference(read(database), objects.of_revision(HEAD)) == {}
    assert database.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert [one.step.id for one in done.done] == IDS[1:]
    begun, ended = ([e.step.id for e in events if isinstance(e, kind)] for kind in (Begun, Done))
    assert begun == ended == IDS[1:]
