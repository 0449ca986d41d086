"""A rehearsal on the real stack: what ships passes, and a backend that the new schema refuses is caught."""

import shutil

import pytest

from session_fix import subjects
from session_fix.flow import HEALTHY
from session_fix.progress import SILENT
from session_fix.rollout.rehearsal.rehearsing import rehearse
from session_fix.settings import Settings
from session_fix.subjects import Subject

# It writes times that head refuses and the schema of before takes.
FOR_EVER = """
import importlib.util
import sys

sys.path.append({fixed!r})
spec = importlib.util.spec_from_file_location("fixed", {fixed!r} + "/database_service.py")
fixed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixed)
session_row = fixed.session_row
fixed.session_row = lambda *given: session_row(*given) | {{"updated_at": "infinity"}}
db_service = fixed.db_service
"""


@pytest.fixture
def for_ever(tmp_path):
    """Return a service whose sessions last for ever, as the fix is otherwise."""
    fixed = subjects.variant("fixed").directory
    (tmp_path / "database_service.py").write_text(FOR_EVER.format(fixed=str(fixed)))
    for name in ("ai_session_logger.py", "api_server.py"):
        shutil.copy(fixed / name, tmp_path)
    return Subject("for ever", tmp_path, HEALTHY)


def test_old_and_new_code_go_on_through_a_rollout():
    """This is what an operator asks before the night."""
    found = rehearse(
        [subjects.variant("documented"), subjects.variant("fixed")], Settings(), interactions=2000, progress=SILENT
    )
    assert (found.verdict, found.lost, found.problem) == ("pass", 0, ""), found
    assert found.steps > 10


def test_code_that_the_new_schema_refuses_is_caught(for_ever):
    """Its requests worked before the rollout, and fail from the checks on."""
    found = rehearse([subjects.variant("fixed"), for_ever], Settings(), interactions=50, progress=SILENT)
    failed = {one.name: len(one.failed()) for one in found.services}
    assert found.verdict == "fail", found
    assert failed["fixed"] == 0
    assert failed["for ever"] > 0
