"""Services as they come: they try again, pool connections, hang, hurry or say nothing; how many orders they have."""

import pytest

from session_fix.explore import runs

pytestmark = pytest.mark.usefixtures("variant")

FOUR_CALLS = """
class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        there(session_id)
        return super().create_session(session_id)

    def log_interaction(self, session_id, *args, **more):
        super().log_interaction(session_id, *args)
        return bool(send("PATCH", "ai_sessions?id=eq." + session_id, {"updated_at": "now"}, SHOWN))

SHOWN = "return=representation"
"""
RETRIES = """
class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        for _ in range(3):
            try:
                if not there(session_id):
                    send("POST", "ai_sessions", {"id": session_id})
                return session_id
            except RestError:
                pass
"""
POOLED = """
import httpx

CLIENT = httpx.Client(base_url=os.environ["SUPABASE_URL"] + "/rest/v1/", timeout=20)
CLIENT.headers.update({"apikey": KEY, "authorization": "Bearer " + KEY})

def send(method, target, body=None, prefer=""):
    response = CLIENT.request(method, target, json=body, headers={"prefer": prefer})
    if response.is_error:
        raise RestError(response.json()["code"])
    return response.json() if response.content else []
"""
KEEPS = """
import http.client
import threading
from urllib.parse import urlsplit

HEADERS = {"apikey": KEY, "authorization": "Bearer " + KEY, "content-type": "application/json"}
FREE, LOCK = [], threading.Lock()

def send(method, target, body=None, prefer=""):
    with LOCK:
        connection = FREE.pop(0) if FREE else http.client.HTTPConnection(urlsplit(os.environ["SUPABASE_URL"]).netloc)
    content = None if body is None else json.dumps(body)
    connection.request(method, "/rest/v1/" + target, content, HEADERS | {"prefer": prefer})
    response = connection.getresponse()
    answer = response.read()
    FREE.append(connection)
    if response.status >= 400:
        raise RestError(json.loads(answer)["code"])
    return json.loads(answer) if answer else []
"""
HANGS = """
import threading

class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        if there(session_id):
            threading.Event().wait(3)
        return super().create_session(session_id)
"""
AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor

class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(there, [session_id, session_id]))
        return super().create_session(session_id)
"""
SILENT = """
class DatabaseService(DatabaseService):
    def create_session(self, session_id=None, user_id=None):
        return session_id

    def log_interaction(self, *args, **more):
        return True
"""


def covered(found):
    """Return the verdict of an exploration, whether it went to its end, and how many orders there are."""
    assert not found.problem
    return found.verdict, found.complete, found.orders


@pytest.mark.parametrize("variant", [FOUR_CALLS], indirect=True, ids=["four calls"])
def test_four_calls_each_have_seventy_orders_however_few_are_run(explore):
    """The number from the book, on the real stack."""
    every, pruned = explore("query-query", prune=False), explore("query-query")
    assert covered(every) == covered(pruned) == ("pass", True, 70)
    assert (every.runs, every.counts["equivalent"]) == (70, 0)
    assert pruned.runs < 70
    assert pruned.runs + pruned.counts["equivalent"] == 70


@pytest.mark.parametrize("variant", [RETRIES], indirect=True, ids=["retries"])
def test_a_service_that_tries_again_has_more_calls_in_some_orders(explore):
    """How many calls there are is found out on the way; the orders of all of them are run."""
    every, pruned = explore("create-create", prune=False), explore("create-create")
    assert covered(every) == covered(pruned) == ("pass", True, 6)
    assert every.calls == 2 * 3 + 4 * 5, (
        "whoever comes second has nothing to insert, or inserts in vain and looks again"
    )
    assert every.outcomes == pruned.outcomes


@pytest.mark.parametrize("variant", [POOLED, KEEPS], indirect=True, ids=["pooled", "kept alive"])
def test_whose_call_it_is_does_not_depend_on_its_connection(explore):
    """One connection carries the calls of several clients, one after the other."""
    assert covered(explore("query-query", prune=False)) == ("pass", True, 6)


@pytest.mark.parametrize("variant", [HANGS], indirect=True, ids=["hangs"])
def test_a_service_that_hangs_is_inconclusive_and_shows_its_stacks(explore, monkeypatch):
    """Whoever maintains the service has to see where it waits; and the run goes on to its end in time."""
    monkeypatch.setattr(runs, "STEP_S", 0.5)
    found = explore("create-create")
    assert (found.verdict, found.counts["inconclusive"]) == ("inconclusive", 1)
    assert "B has neither finished nor made its next call after 0.5 s. At the gate: " in found.problem
    assert "in create_session" in found.problem
    assert found.seconds < 0.5 + 3 + runs.ENDING_S


@pytest.mark.parametrize("variant", [AT_ONCE], indirect=True, ids=["at once"])
def test_a_service_that_makes_two_calls_at_once_is_inconclusive(explore):
    """Which of the two comes first is not in our hands, so nothing can be said about all orders."""
    found = explore("create-create")
    assert (found.verdict, found.counts["inconclusive"]) == ("inconclusive", 1)
    assert runs.NOT_IN_OUR_HANDS in found.problem


@pytest.mark.parametrize("variant", [SILENT], indirect=True, ids=["silent"])
@pytest.mark.parametrize("workload", ["query-query", "query-reader", "create-create"])
def test_a_service_that_makes_no_call_is_inconclusive(explore, workload):
    """It may talk to another database: that nothing is stored in ours proves nothing, nor do an operator's calls."""
    found = explore(workload)
    assert found.verdict == "inconclusive"
    assert "the service made no call to the data API" in found.why_inconclusive
