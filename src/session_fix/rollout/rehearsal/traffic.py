"""Clients of a backend's API that create sessions and ask questions, one after another, until they are told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from session_fix.events import Recorder
from session_fix.frontend import CREATE_PATH, QUERY_PATH, Answer, Frontend
from session_fix.rollout.rehearsal.record import OK, Request, Used

QUERIES = 3  # in each session
EVERY_S = 0.02
WARM_UP = 10  # requests of each service before a rollout begins
WARM_UP_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Client:
    """A client of one service, in a thread of its own. ``answered`` names the sessions of queries that were stored."""

    name: str
    url: str
    requests: list[Request] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    def go_on(self, ended: threading.Event) -> None:
        """Use the service until ``ended``."""
        frontend = Frontend(self.url, Recorder())
        while not ended.is_set():
            session_id = self._timed(CREATE_PATH, frontend.create_session).session_id
            for number in range(QUERIES if session_id else 0):
                if ended.wait(EVERY_S):
                    return
                text = f"question {number}"
                answer = self._timed(QUERY_PATH, lambda: frontend.query(str(session_id), text))  # noqa: B023  called at once
                if answer.status == OK:
                    self.answered.append(str(session_id))

    def _timed(self, path: str, ask: Callable[[], Answer]) -> Answer:
        began = time.monotonic()
        answer = ask()
        self.requests.append(Request(began, (time.monotonic() - began) * 1000, path, answer.status))
        return answer

    def used(self, since: float) -> Used:
        """Return what it was asked, timed from that moment on the monotonic clock."""
        return Used(self.name, tuple(replace(one, began_s=one.began_s - since) for one in self.requests))


@contextmanager
def going_on(clients: list[Client]) -> Iterator[None]:
    """Have every client use its service for the block, and for a while before it."""
    ended = threading.Event()
    threads = [
        threading.Thread(target=client.go_on, args=(ended,), name=f"session-fix {client.name}") for client in clients
    ]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + WARM_UP_TIMEOUT_S
        while any(len(client.requests) < WARM_UP for client in clients) and time.monotonic() < deadline:
            time.sleep(EVERY_S)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
