"""What must hold after a run, whatever the order was. Pure: judged by what the clients were told and what is stored.

Nothing here looks at the order of calls or answers: runs that differ only in the order of independent calls are told
the same, and leave the same behind, so they are judged the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from session_fix.explore import migration
from session_fix.explore.clients import Told
from session_fix.explore.runs import Run, texts
from session_fix.explore.schedules import named
from session_fix.explore.workloads import CLEANUP, CREATE, DELETE, MIGRATE, QUERY, READ, Workload

CONSTRAINTS = frozenset({"23503", "23505"})  # Source: PostgreSQL manual, appendix "Error Codes"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and how that shows."""

    invariant: str
    summary: str


@dataclass(frozen=True, slots=True)
class _Case:
    workload: Workload
    run: Run

    def told(self, *actions: str) -> Iterator[tuple[int, Told]]:
        """Yield what the clients of the service under test were told of some actions."""
        for number, (client, told) in enumerate(zip(self.workload.clients, self.run.told, strict=True)):
            if not client.other:
                yield from ((number, one) for one in told if one.action in actions)

    def stored(self, client: int) -> list[tuple[str, str, str, str]]:
        return [row for row in self.run.contents.interactions if row[2] == texts(client).prompt]

    @property
    def sessions(self) -> list[str]:
        return [session for session, _ in self.run.contents.sessions]

    @property
    def removed(self) -> bool:
        """Whether somebody was told that the session was deleted."""
        deleted = any(told.done and told.value for _, told in self.told(DELETE))
        return deleted or any(self.run.session_id in told.value for _, told in self.told(CLEANUP))


def acknowledged_is_stored(case: _Case) -> Iterator[str]:
    """Whatever a client was told is stored, is."""
    for client, told in case.told(QUERY):
        if told.done and not case.stored(client):
            yield f"{named(client)}'s query was answered, and its interaction is not stored"
    for client, told in case.told(CREATE):
        if told.done and case.run.session_id not in case.sessions and not case.removed:
            yield f"{named(client)} was told that the session is there, and it is not"


def one_session(case: _Case) -> Iterator[str]:
    """One id, one session; and none that nobody asked for."""
    others = [session for session in case.sessions if session not in {case.run.session_id, migration.ORPHAN}]
    if others and not any(client.other for client in case.workload.clients):
        yield f"{len(others)} session(s) are stored that nobody asked for"


def one_interaction(case: _Case) -> Iterator[str]:
    """Each query is stored once."""
    for client, _ in case.told(QUERY):
        if (count := len(case.stored(client))) > 1:
            yield f"{named(client)}'s interaction is stored {count} times"


def no_orphans(case: _Case) -> Iterator[str]:
    """Each interaction's session is there, whether a foreign key says so or not."""
    for _, session, prompt, _ in case.run.contents.interactions:
        if session not in case.sessions:
            yield f"the interaction with {prompt!r} belongs to a session that is not there"


def no_error(case: _Case) -> Iterator[str]:
    """Nobody who does nothing wrong is told of an error."""
    for client, told in case.told(CREATE, QUERY):
        if told.error and not case.workload.clients[client].killed:
            codes = [code for code in _refused(case.run, client) if code in CONSTRAINTS - {told.error}]
            yield f"{named(client)}'s {told.action} ended with {' after '.join([told.error, *codes])}"


def _refused(run: Run, client: int) -> list[str]:
    """Return the SQLSTATEs that a client's calls were answered with; one call at a time, so they come in pairs."""
    replies = [event.fields["sqlstate"] for event in run.events if event.kind == "reply"]
    return [code for chosen, code in zip(run.forwarded, replies, strict=False) if chosen == client and code]


def pairs_belong_together(case: _Case) -> Iterator[str]:
    """Each stored prompt has its own response, and its own session."""
    for client, told in case.told(QUERY):
        for _, session, prompt, response in case.stored(client):
            if session != case.run.session_id:
                yield f"{prompt!r} is stored in another session"
            if told.done and response != told.value:
                yield f"{prompt!r} is stored with {response!r}, and was answered with {told.value!r}"


def heals(case: _Case) -> Iterator[str]:
    """After a session was deleted or cleaned up, or a process that used it killed, somebody can ask in it."""
    if (healed := case.run.healed) and not healed.done:
        yield f"afterwards, with nobody else there, a query ended with {healed.error}"


def nothing_in_use_is_cleaned_up(case: _Case) -> Iterator[str]:
    """Whoever was answered has its interaction, when a cleanup removed the session under it."""
    cleaned = any(case.run.session_id in told.value for _, told in case.told(CLEANUP))
    for client, told in case.told(QUERY):
        if cleaned and told.done and not case.stored(client):
            yield f"the cleanup removed the session under {named(client)}'s interaction"


def nothing_is_half_done(case: _Case) -> Iterator[str]:
    """Wherever a migration ran, its constraint and its index are valid afterwards."""
    if case.run.migrated is False:
        told = [f" ({one.error})" for _, one in case.told(MIGRATE) if one.error]
        yield f"the migration did not come to its end{''.join(told)}"


def reads_are_prefixes(case: _Case) -> Iterator[str]:
    """Who reads a session again and again sees it grow, and nothing disappear, come twice or move."""
    for client, told in _by_client(case, READ):
        shown = [one.value for one in told if one.done]
        final = [row[0] for row in case.run.contents.interactions if row[1] == case.run.session_id]
        for before, after in zip(shown, [*shown[1:], final], strict=False):
            if after[: len(before)] != before and not (after is final and set(before) <= set(final)):
                yield f"{named(client)} read {len(before)} interaction(s), and later {len(after)} that do not begin so"
            elif len(set(before)) < len(before):
                yield f"{named(client)} read an interaction twice at once"


def _by_client(case: _Case, action: str) -> Iterator[tuple[int, list[Told]]]:
    counted = Counter(client for client, _ in case.told(action))
    for client in counted:
        yield client, [told for number, told in case.told(action) if number == client]


Check = Callable[[_Case], Iterator[str]]
CHECKS: dict[str, Check] = {
    "I1 acknowledged is stored": acknowledged_is_stored,
    "I2 one id, one session": one_session,
    "I3 one query, one interaction": one_interaction,
    "I4 no orphan": no_orphans,
    "I5 no error for the caller": no_error,
    "I6 prompt, response and session belong together": pairs_belong_together,
    "I7 the session can be used afterwards": heals,
    "I8 cleanup takes nothing that is in use": nothing_in_use_is_cleaned_up,
    "I9 a migration leaves nothing half done": nothing_is_half_done,
    "I12 reads only grow": reads_are_prefixes,
}


def violations(workload: Workload, run: Run) -> list[Violation]:
    """Return the invariants that a run breaks."""
    case = _Case(workload, run)
    return [Violation(name, summary) for name, check in CHECKS.items() for summary in check(case)]
