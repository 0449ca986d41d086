"""What a step may come to: its answer, and how the rows after it differ from those before. Pure.

Whatever a step does not ask for has to stay as it was. The database is looked at after every step, so what was found
after one is what the next one starts from, and nothing that happens in between goes unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from session_fix.events import UUID
from session_fix.walks.steps import Action, Step

Users = Mapping[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Interaction:
    """A row of ``ai_interactions``."""

    session_id: str
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What is stored: the user of each session, and the interactions, by their ids."""

    sessions: Users = field(default_factory=dict)
    interactions: Mapping[str, Interaction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a step was answered: in words, whether that is a success, and the session it names."""

    said: str
    is_success: bool = True
    session_id: str | None = None


def session_of(step: Step, reply: Reply, before: Rows, after: Rows) -> str | None:
    """Return the session that the service made for a step, None when that cannot be told.

    A logger without a session id only says that it logged; its session is the one that it logged in.
    """
    if step.action is not Action.LOG:
        return reply.session_id
    logged_in = {found.session_id for found in _added(before, after)}
    return logged_in.pop() if len(logged_in) == 1 else None


def contradictions(step: Step, session_id: str | None, before: Rows, reply: Reply, after: Rows) -> list[str]:
    """Return what the step came to and may not, in sentences with ids; nothing when all is well.

    ``session_id`` is the session that the step is about, None when the service made one and did not say which.
    """
    return [
        *_in_the_answer(step, session_id, reply),
        *_in_the_sessions(step, session_id, before.sessions, after.sessions),
        *_in_the_users(step, session_id, before.sessions, after.sessions),
        *_in_the_interactions(step, session_id, before, after),
    ]


def _in_the_answer(step: Step, session_id: str | None, reply: Reply) -> Iterator[str]:
    if not reply.is_success:
        yield "it fails"
    elif step.action in {Action.CREATE, Action.QUERY, Action.CREATE_SESSION}:
        if reply.session_id != session_id:
            yield f"the answer is about {reply.session_id}, not {session_id}"
        if not step.is_given and not UUID.fullmatch(reply.session_id or ""):
            yield "the answer names no session"


def _in_the_sessions(step: Step, session_id: str | None, before: Users, after: Users) -> Iterator[str]:
    is_deleted = step.action is Action.DELETE
    if not step.is_given and session_id in before:
        yield f"{session_id} is no new session"
    if not is_deleted and session_id not in after:
        yield f"{session_id or 'its session'} is not stored"
    for gone in before.keys() - after.keys() - {session_id}:
        yield f"{gone} is gone"
    for stranger in after.keys() - before.keys():
        if is_deleted or stranger != session_id:
            yield f"a session that nobody asked for is stored, with the user {after[stranger]}"


def _in_the_users(step: Step, session_id: str | None, before: Users, after: Users) -> Iterator[str]:
    """Whom the service itself names for a new session is its own affair; a session without a user may get one."""
    for stored in before.keys() & after.keys():
        allowed = {before[stored]}
        if before[stored] is None and stored == session_id:
            allowed.add(step.user_id)
        if after[stored] not in allowed:
            yield f"the user of {stored} was {before[stored]} and is {after[stored]}"
    if session_id in after.keys() - before.keys() and step.user_id not in {None, after[session_id]}:
        yield f"the user of {session_id} is {after[session_id]}, not {step.user_id}"


def _added(before: Rows, after: Rows) -> list[Interaction]:
    return [found for key, found in after.interactions.items() if key not in before.interactions]


def _in_the_interactions(step: Step, session_id: str | None, before: Rows, after: Rows) -> Iterator[str]:
    deleted = session_id if step.action is Action.DELETE else None
    for key, kept in before.interactions.items():
        if kept.session_id == deleted:
            continue
        if (now := after.interactions.get(key)) is None:
            yield f"{kept.prompt!r} in {kept.session_id} is gone"
        elif now != kept:
            yield f"{kept.prompt!r} in {kept.session_id} has become {now.prompt!r} in {now.session_id}"
    added = _added(before, after)
    if step.prompt is None:
        if added:
            yield "an interaction that nobody asked for is stored"
    elif len(added) != 1:
        yield f"{step.prompt!r} is stored {len(added)} times" if added else f"{step.prompt!r} is not stored"
    else:
        yield from _in_the_new_one(step, session_id, added[0])


def _in_the_new_one(step: Step, session_id: str | None, stored: Interaction) -> Iterator[str]:
    if stored.session_id != session_id:
        yield f"{step.prompt!r} is stored in {stored.session_id}, not in {session_id}"
    if stored.prompt != step.prompt:
        yield f"{step.prompt!r} is stored as {stored.prompt!r}"
    if step.action is Action.LOG and stored.response != step.response:  # at the API the service answers as it likes
        yield f"{step.response!r} is stored as {stored.response!r}"
