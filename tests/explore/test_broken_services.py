"""One small service for each invariant that breaks only that one, and is caught; and one that only processes show."""

import pytest

from session_fix.explore.clients import INTERACTIONS, SESSIONS, Client, Told
from session_fix.explore.runs import Performer
from session_fix.explore.workloads import CLEANUP

pytestmark = pytest.mark.usefixtures("variant")
NOTES = """
import threading

NOTED = threading.local()

class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        NOTED.old = there(session_id)
        return super().create_session(session_id)
"""
LOSES = f"""{NOTES}
    def log_interaction(self, *args, **more):
        return NOTED.old or super().log_interaction(*args)
"""
SECOND_SESSION = f"""{NOTES}
    def log_interaction(self, *args, **more):
        if NOTED.old:
            send("POST", "ai_sessions", {{"id": str(uuid.uuid4())}})
        return super().log_interaction(*args)
"""
TWICE = f"""{NOTES}
    def log_interaction(self, *args, **more):
        return super().log_interaction(*args) and (not NOTED.old or super().log_interaction(*args))
"""
NO_SESSION = """
class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        there(session_id)
        return session_id
"""
SWAPS = """
class DatabaseService(DatabaseService):
    def log_interaction(self, session_id, prompt, response, **more):
        self.last = response
        there(session_id)
        return super().log_interaction(session_id, prompt, self.last)
"""
GIVES_UP = """
GONE = set()

class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        if session_id in GONE:
            raise RestError("gone")
        return super().create_session(session_id)

    def repair(self, session_id):
        super().repair(session_id)
        GONE.add(session_id)
"""
ANEW = """
class DatabaseService(DatabaseService):
    def log_interaction(self, session_id, prompt, *args, **more):
        super().log_interaction(session_id, prompt, *args)
        send("DELETE", "ai_interactions?prompt=eq." + urllib.request.quote(prompt))
        return super().log_interaction(session_id, prompt, *args)
"""
KNOWS_ITS_OWN = """
import collections

CLAIMS = collections.Counter()

class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        CLAIMS[session_id] += 1
        if not there(session_id):
            try:
                send("POST", "ai_sessions", {"id": session_id})
            except RestError:
                if CLAIMS[session_id] < 2:
                    raise
        return session_id
"""
BROKEN = [
    ("I1", "query-query", LOSES),
    ("I2", "query-query", SECOND_SESSION),
    ("I3", "query-query", TWICE),
    ("I5", "create-create", "documented"),
    ("I5", "create-query", "documented"),
    ("I5", "query-query", "documented"),
    ("I6", "query-query", SWAPS),
    ("I7", "query-cleanup", GIVES_UP),
    ("I12", "query-reader", ANEW),
]


def broken(found):
    """Return the numbers of the invariants that a counterexample breaks."""
    assert found.counterexample, (found.verdict, found.why_inconclusive)
    return {violation.invariant.split()[0] for violation in found.counterexample.violations}


@pytest.mark.parametrize(
    ("number", "workload", "variant"), BROKEN, indirect=["variant"], ids=[f"{one[0]} {one[1]}" for one in BROKEN]
)
def test_a_service_that_breaks_one_invariant_is_caught(explore, number, workload):
    """What cannot be caught is not checked, and what is caught as something else cannot be mended."""
    assert broken(explore(workload)) == {number}


@pytest.mark.parametrize(
    "workload", ["create-create", "create-query", "query-query", "query-query-delete", "query-cleanup", "query-reader"]
)
def test_the_service_they_are_made_from_is_right(explore, workload):
    """Otherwise any of them would be caught for what it was made from."""
    found = explore(workload)
    assert (found.verdict, found.complete) == ("pass", True), found.why_inconclusive


@pytest.mark.parametrize("variant", [NO_SESSION], indirect=True, ids=["no session"])
def test_an_orphan_is_caught_where_no_foreign_key_forbids_it(explore, database):
    """The anti-join is ours: a database in production may have lost its constraint."""
    assert broken(explore("query-query")) == {"I5"}
    database.rows("ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey")
    assert broken(explore("query-query")) == {"I4"}


def remove_everything(client):
    """Clean up what is there, whether it is in use or not; it takes the place of the right one."""
    _, found = client._ask("GET", SESSIONS, select="id")  # noqa: SLF001  it takes a method's place
    for session in found:
        client._ask("DELETE", INTERACTIONS, session_id=f"eq.{session['id']}")  # noqa: SLF001
        client._ask("DELETE", SESSIONS, id=f"eq.{session['id']}")  # noqa: SLF001
    return Told(CLEANUP, done=True, value=[session["id"] for session in found])


def test_a_cleanup_that_removes_what_is_in_use_is_caught(explore, monkeypatch):
    """Mutant of the operator, not of the service: an acknowledged interaction is lost, and I8 says to whom."""
    monkeypatch.setattr(Client, "_cleanup", remove_everything)
    assert broken(explore("query-cleanup")) == {"I1", "I8"}


@pytest.mark.parametrize("variant", [KNOWS_ITS_OWN], indirect=True, ids=["its own"])
def test_what_one_process_knows_only_two_processes_refute(explore):
    """In one process each order is fine; a second worker of the same service is what breaks it."""
    alone, together = explore("query-query"), explore("query-query-processes")
    assert (alone.verdict, alone.complete) == ("pass", True)
    assert broken(together) == {"I5"}


@pytest.mark.parametrize("variant", [SWAPS], indirect=True, ids=["swaps"])
def test_no_two_runs_share_an_id(explore, monkeypatch):
    """A service may remember ids: a counterexample must not be made of what an earlier run left in its process."""
    ids, perform = [], Performer.perform

    def performed(*arguments):
        ids.append((run := perform(*arguments)).session_id)
        return run

    monkeypatch.setattr(Performer, "perform", performed)
    found = [explore("query-query"), explore("create-query"), explore("query-query", seed=2)]
    assert len(ids) > sum(one.runs for one in found), "it has to look for fewer switches as well"
    assert len(set(ids)) == len(ids)
