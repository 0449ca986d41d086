"""The steps of a walk, drawn as picks and planned ahead: which client asks for what, about which session. Pure.

Sessions have names, s1, s2 and so on, in the order in which a walk first needs them; ids come when a step is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from session_fix.frontend import CREATE_PATH, QUERY_PATH


class Action(Enum):
    """What a step asks for, and at which layer."""

    CREATE = f"POST {CREATE_PATH}"
    QUERY = f"POST {QUERY_PATH}"
    CREATE_SESSION = "create_session"
    LOG = "log_interaction"
    DELETE = "delete"


class Source(Enum):
    """Where the step's session comes from."""

    MADE = "the service makes its id"
    NEW = "the client brings an id that nobody stored"
    KNOWN = "an earlier step named it; it may be deleted since"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of step; one that is signed says who its user is."""

    action: Action
    source: Source
    is_signed: bool = False


# A story is shortened towards the first of them.
RULES = (
    Rule(Action.CREATE, Source.MADE),
    Rule(Action.QUERY, Source.KNOWN),
    Rule(Action.QUERY, Source.NEW),
    Rule(Action.CREATE_SESSION, Source.KNOWN),
    Rule(Action.CREATE_SESSION, Source.NEW),
    Rule(Action.CREATE_SESSION, Source.MADE),
    Rule(Action.CREATE_SESSION, Source.KNOWN, is_signed=True),
    Rule(Action.CREATE_SESSION, Source.NEW, is_signed=True),
    Rule(Action.CREATE_SESSION, Source.MADE, is_signed=True),
    Rule(Action.LOG, Source.KNOWN),
    Rule(Action.LOG, Source.NEW),
    Rule(Action.LOG, Source.MADE),
    Rule(Action.DELETE, Source.KNOWN),
)
CLIENTS = ("anna", "bert", "cleo")
PROMPTS = ("hello", "what now?", 'naïve "quotes" \N{WAVING HAND SIGN}')
FARTHEST = 5  # of the sessions that a step can be about, counted from 0


@dataclass(frozen=True, slots=True)
class Pick:
    """What is drawn for one step; ``which`` counts the known sessions from the first, and stops at the last.

    Counted so, a walk can lose steps without the others meaning other sessions. There are four things to draw and no
    more: hypothesis takes five draws out of a walk at most, and one is whether it goes on.
    """

    rule: Rule
    client: str = CLIENTS[0]
    which: int = 0
    prompt: str = PROMPTS[0]


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``is_given`` says whether the session's id is handed to the service, or made by it."""

    client: str
    action: Action
    session: str
    is_given: bool
    user_id: str | None = None
    prompt: str | None = None

    @property
    def response(self) -> str:
        """Return what a logged prompt is logged with."""
        return f"answer to {self.prompt}"

    @property
    def seen(self) -> tuple[object, ...]:
        """Return what the service sees of the step: not who asks, unless that is said."""
        return (self.action, self.session, self.is_given, self.user_id, self.prompt)

    def __str__(self) -> str:
        """Return it in a few words, as a story tells it."""
        session = self.session if self.is_given else ""
        prompt = repr(self.prompt) if self.prompt else ""
        match self.action:
            case Action.CREATE_SESSION | Action.LOG:
                user = f"user_id={self.user_id!r}" if self.user_id else ""
                named = f"session_id={session}" if session and self.action is Action.LOG else session
                what = f"{self.action.value}({', '.join(filter(None, (prompt, named, user)))})"
            case _:
                what = " ".join(filter(None, (self.action.value, session, prompt)))
        return f"{self.client}: {what}"


def plan(picks: Iterable[Pick]) -> tuple[Step, ...]:
    """Return the steps that the picks come to; a pick of a known session is dropped where there is none yet."""
    steps: list[Step] = []
    sessions: list[str] = []
    for pick in picks:
        action, source = pick.rule.action, pick.rule.source
        if source is not Source.KNOWN:
            sessions.append(f"s{len(sessions) + 1}")
            session = sessions[-1]
        elif sessions:
            session = sessions[min(pick.which, len(sessions) - 1)]
        else:
            continue
        steps.append(
            Step(
                client=pick.client,
                action=action,
                session=session,
                is_given=source is not Source.MADE,
                user_id=pick.client if pick.rule.is_signed else None,
                prompt=pick.prompt if action in {Action.QUERY, Action.LOG} else None,
            )
        )
    return tuple(steps)
