"""An honest service in memory, which tests break as they need."""

import uuid

import pytest

from session_fix.walks.model import Interaction, Reply, Rows
from session_fix.walks.steps import Action

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2


class Honest:
    """A world in memory that does what the model says."""

    def __init__(self):
        self.sessions, self.interactions, self.taken = {}, {}, []

    def empty(self):
        """Forget all rows, and begin another walk."""
        self.sessions, self.interactions = {}, {}
        self.taken.append([])

    def look(self):
        """Return what is stored."""
        return Rows(dict(self.sessions), dict(self.interactions))

    def take(self, step, session_id):
        """Take a step."""
        self.taken[-1].append(str(step))
        if step.action is Action.DELETE:
            self.delete(session_id)
            return Reply("deleted")
        session_id = self.create(session_id, step.user_id)
        if step.prompt is None:
            return Reply(session_id, session_id=session_id)
        self.log(session_id, step.prompt, step.response)
        return Reply("True", session_id=session_id if step.action is Action.QUERY else None)

    def create(self, session_id, user_id):
        """Store a session unless it is stored."""
        session_id = session_id or str(uuid.uuid4())
        self.sessions.setdefault(session_id, user_id)
        return session_id

    def log(self, session_id, prompt, response):
        """Store an interaction."""
        self.interactions[str(uuid.uuid4())] = Interaction(session_id, prompt, response)

    def delete(self, session_id):
        """Delete a session and its interactions."""
        self.sessions.pop(session_id, None)
        self.interactions = {k: row for k, row in self.interactions.items() if row.session_id != session_id}


@pytest.fixture
def honest():
    """Return the class of an honest world, to make one or to derive a broken one."""
    return Honest
