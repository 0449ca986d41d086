"""Small services, written to a folder of the test and started there."""

from contextlib import ExitStack

import pytest

from session_fix import host
from session_fix.host.service import environment
from session_fix.rest import Keys

DATABASE = """
class DatabaseService:
    def create_session(self, session_id=None, user_id=None):
        {create}

    def log_interaction(self, session_id, prompt, response, model_used="none", tokens_used=None):
        {log}

db_service = DatabaseService()
"""
LOGGER = """
from database_service import db_service

class Logger:
    def log_interaction(self, prompt, response, model_used="none", tokens_used=None, session_id=None):
        db_service.create_session(session_id)
        return db_service.log_interaction(session_id, prompt, response, tokens_used=tokens_used)

ai_logger = Logger()
log_ai_interaction = ai_logger.log_interaction
"""
API = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a service directory; modules can be added, replaced or, as None, left out."""
    directory = tmp_path / "svc"
    directory.mkdir()

    def put(*, create="return session_id", log="return True", at_import="", **modules):
        database = at_import + DATABASE.format(create=create, log=log)
        modules = {"database_service": database, "ai_session_logger": LOGGER, "api_server": API} | modules
        for name, text in modules.items():
            if text is not None:
                (directory / f"{name}.py").write_text(text)
        return directory

    return put


@pytest.fixture
def start():
    """Return a function that starts the service in a directory; it ends with the test."""
    with ExitStack() as running:

        def begin(directory, **options):
            env = environment("http://127.0.0.1:9", Keys("anon", "service"))
            return running.enter_context(host.start(directory, env, **options))

        yield begin
