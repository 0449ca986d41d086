"""Small services that talk to the data API with urllib, so that they start fast; each test breaks one as it needs."""

import pytest

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2

DATABASE = '''
"""What is right in every order: both rows are inserted unless they are there."""

import json
import os
import urllib.error
import urllib.request
import uuid

KEY = os.environ["SUPABASE_SERVICE_ROLE_KEY"]
MERGE, IGNORE = "resolution=merge-duplicates", "resolution=ignore-duplicates"


class RestError(Exception):
    """What the data API refused."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def send(method, target, body=None, prefer=""):
    """Return what the data API answers."""
    request = urllib.request.Request(
        os.environ["SUPABASE_URL"] + "/rest/v1/" + target,
        None if body is None else json.dumps(body).encode(),
        {"apikey": KEY, "authorization": "Bearer " + KEY, "content-type": "application/json", "prefer": prefer},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            content = response.read()
    except urllib.error.HTTPError as error:
        raise RestError(json.loads(error.read())["code"]) from None
    return json.loads(content) if content else []


class DatabaseService:
    """Stores sessions and interactions."""

    def create_session(self, session_id=None, user_id=None):
        """Store the session unless it is there."""
        send("POST", "ai_sessions?on_conflict=id", {"id": session_id}, IGNORE)
        return session_id

    def log_interaction(self, session_id, prompt, response, model_used=None, tokens_used=None):
        """Store the interaction."""
        row = {"id": str(uuid.uuid4()), "session_id": session_id, "prompt": prompt, "response": response}
        try:
            send("POST", "ai_interactions", row | {"created_at": "now"})
        except RestError:
            self.repair(session_id)
            send("POST", "ai_interactions", row | {"created_at": "now"})
        return True

    def repair(self, session_id):
        """Store the session again, which was deleted since."""
        self.create_session(session_id)


def there(session_id):
    """Say whether the session is there."""
    return bool(send("GET", "ai_sessions?select=id&id=eq." + session_id))
'''
LOGGER = '''
"""The session first, then the interaction."""

from database_service import db_service


class Logger:
    """Logs interactions."""

    def log_interaction(self, prompt, response, model_used=None, tokens_used=None, session_id=None):
        """Make sure of the session, then store the interaction."""
        db_service.create_session(session_id)
        return db_service.log_interaction(session_id, prompt, response)


ai_logger = Logger()
log_ai_interaction = ai_logger.log_interaction
'''


@pytest.fixture
def variant(request, tmp_path):
    """Return what the test explores: a service of a few lines, by what is added to the database layer; or a variant.

    The test names it by ``@pytest.mark.parametrize("variant", [...], indirect=True)``.
    """
    added = getattr(request, "param", "")
    if added in {"before", "documented", "fixed"}:
        return added
    directory = tmp_path / "svc"
    directory.mkdir()
    (directory / "ai_session_logger.py").write_text(LOGGER)
    (directory / "database_service.py").write_text(f"{DATABASE}\n\n{added}\n\ndb_service = DatabaseService()\n")
    return str(directory)
