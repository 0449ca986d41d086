"""Small services, each broken in one way that needs more than one step to see; a walk finds each, and says how.

They are written without a client library: they start in no time, and share nothing with the services that ship.
"""

import pytest
from session_fix.fixtures.service import ServicePool

from session_fix.walks.search import search
from session_fix.walks.walk import Contradiction
from session_fix.walks.world import LatestWalk, ServiceWorld

WALKS, SEED = 30, 20261122
DATABASE = """
import http.client, json, os, uuid

class Refused(Exception):
    pass

class Honest:
    def __init__(self):
        self.rest = http.client.HTTPConnection(os.environ["SUPABASE_URL"].removeprefix("http://"))
        key = os.environ["SUPABASE_SERVICE_ROLE_KEY"]
        self.headers = {"apikey": key, "authorization": f"Bearer {key}", "content-type": "application/json"}

    def ask(self, method, path, row=None, prefer="return=minimal"):
        self.rest.request(method, f"/rest/v1/{path}", row and json.dumps(row), self.headers | {"prefer": prefer})
        reply = self.rest.getresponse()
        text = reply.read()
        if reply.status >= 400:
            raise Refused(reply.status)
        return json.loads(text or "[]")

    def create_session(self, session_id=None, user_id=None):
        row = {"id": session_id or str(uuid.uuid4()), "user_id": user_id}
        self.ask("POST", "ai_sessions?on_conflict=id", row, "resolution=ignore-duplicates")
        return row["id"]

    def log_interaction(self, session_id, prompt, response, model_used="none", tokens_used=None):
        row = {"id": str(uuid.uuid4()), "session_id": session_id, "prompt": prompt, "response": response}
        self.ask("POST", "ai_interactions", row)
        return True

class Broken(Honest):
    def logged(self, session_id):
        return self.ask("GET", f"ai_interactions?select=id&session_id=eq.{session_id}")
"""
LOGGER = """
from database_service import db_service

class Logger:
    def log_interaction(self, prompt, response, model_used="none", tokens_used=None, session_id=None):
        return db_service.log_interaction(db_service.create_session(session_id), prompt, response)

ai_logger = Logger()
log_ai_interaction = ai_logger.log_interaction
"""
API = """
import json
from ai_session_logger import ai_logger
from database_service import db_service

async def app(scope, receive, send):
    assert scope["type"] == "http"
    asked = json.loads((await receive())["body"])
    if scope["path"] == "/session/create":
        asked = {"session_id": db_service.create_session()}
    else:
        ai_logger.log_interaction(asked["text"], "hi", session_id=asked["session_id"])
    body = json.dumps({"session_id": asked["session_id"], "response": "hi", "items": []}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
LOSES_EVERY_SECOND = """
    def log_interaction(self, session_id, *texts, **more):
        return len(self.logged(session_id)) % 2 == 1 or super().log_interaction(session_id, *texts, **more)
"""
LOGS_IN_ANOTHER = """
    def log_interaction(self, session_id, *texts, **more):
        others = self.ask("GET", f"ai_sessions?select=id&id=neq.{session_id}&limit=1")
        return super().log_interaction(others[0]["id"] if others else session_id, *texts, **more)
"""
LOGS_TWICE = """
    def log_interaction(self, session_id, *texts, **more):
        for _ in self.logged(session_id)[:1]:
            super().log_interaction(session_id, *texts, **more)
        return super().log_interaction(session_id, *texts, **more)
"""
OVERWRITES_THE_USER = """
    def create_session(self, session_id=None, user_id=None):
        row = {"id": session_id or str(uuid.uuid4()), "user_id": user_id}
        self.ask("POST", "ai_sessions?on_conflict=id", row, "resolution=merge-duplicates")
        return row["id"]
"""
INSERTS_AND_HOPES = """
    def create_session(self, session_id=None, user_id=None):
        row = {"id": session_id or str(uuid.uuid4()), "user_id": user_id}
        self.ask("POST", "ai_sessions", row)
        return row["id"]
"""
BELIEVES_ITS_MEMORY = """
    made = set()

    def create_session(self, session_id=None, user_id=None):
        if session_id not in self.made:
            session_id = super().create_session(session_id, user_id)
            self.made.add(session_id)
        return session_id
"""
SWALLOWS_WHAT_FAILS = (
    BELIEVES_ITS_MEMORY
    + """
    def log_interaction(self, session_id, *texts, **more):
        try:
            return super().log_interaction(session_id, *texts, **more)
        except Refused:
            return True
"""
)


@pytest.fixture
def service_pool(session_fix_stack, session_fix_settings):
    """Return services that end with the test: each of these is of use to no other."""
    pool = ServicePool(session_fix_stack.keys, session_fix_settings.python)
    yield pool
    pool.close()


@pytest.fixture
def recorder():
    """Return a record that holds the latest walk alone."""
    return LatestWalk()


@pytest.fixture
def service_directory(tmp_path, request):
    """Return a service that is broken as the test's parameter says."""
    database = f"{DATABASE}{request.param}\ndb_service = Broken()\n"
    for module, text in {"database_service": database, "ai_session_logger": LOGGER, "api_server": API}.items():
        (tmp_path / f"{module}.py").write_text(text)
    return tmp_path


@pytest.fixture
def world(service, frontend, database, recorder):
    """Return the world of a walk through that service."""
    return ServiceWorld(service.running, frontend, database, recorder)


@pytest.mark.parametrize("service_directory", [pytest.param("", id="nothing")], indirect=True)
def test_what_is_not_broken_passes(world):
    """The services below differ from it by what is broken in them, and by nothing else."""
    assert search(world, walks=10, seed=SEED).steps > 10


@pytest.mark.parametrize(
    ("service_directory", "steps", "what"),
    [
        pytest.param(LOSES_EVERY_SECOND, 3, "'hello' is not stored", id="loses every second interaction"),
        pytest.param(LOGS_IN_ANOTHER, 3, "'hello' is stored in s1, not in s2", id="logs in another session"),
        pytest.param(LOGS_TWICE, 3, "'hello' is stored 2 times", id="logs twice"),
        pytest.param(OVERWRITES_THE_USER, 2, "the user of s1 was anna and is None", id="overwrites the user"),
        pytest.param(INSERTS_AND_HOPES, 2, "it fails", id="fails the second time"),
        pytest.param(BELIEVES_ITS_MEMORY, 3, "s1 is not stored", id="believes its memory"),
        pytest.param(SWALLOWS_WHAT_FAILS, 3, "'hello' is not stored", id="answers 200 without storing"),
    ],
    indirect=["service_directory"],
)
def test_a_broken_service_is_found_in_few_steps(world, steps, what):
    """The story is no longer than what it takes to see it."""
    with pytest.raises(Contradiction) as found:
        search(world, walks=WALKS, seed=SEED)
    assert len(found.value.steps) <= steps, found.value
    assert what in found.value.what, found.value
