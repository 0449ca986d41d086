"""Specs for ``isolationtester``, written from values; and what its output says of each step, read back. Pure.

It prints the text of an error and no SQLSTATE, and nothing makes it print one. So a step of a client whose every call
is a transaction of its own, as through the data API, is written by ``call``: it tells its SQLSTATE by itself, in a
message that no translation and no ``client_min_messages`` touches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

OK, SKIPPED, CANCELED = "ok", "skipped", "canceled"
Step = tuple[str, str]

NAME = re.compile("[A-Za-z_][A-Za-z_0-9]*")
KEYWORDS = frozenset({"notices", "permutation", "session", "setup", "step", "teardown"})
AT_FIRST = "SET session_fix.ended = ''; SET session_fix.found = '0';"
STARTING = "starting permutation: "
REPORTED = re.compile(r"step (\w+): ")
SAID = re.compile(r"[^:\s]+: \S+:  call (\w+): (\w+)")  # session, severity in the server's language, ours
ERROR = re.compile("(?:ERROR|FATAL|PANIC):  (.*)")
GIVEN_UP = re.compile(r"isolationtester: canceling step (\w+) after \d+ seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What several sessions do, and in which orders; in every order where ``permutations`` is empty.

    ``sessions`` has each one's steps, name and SQL, in order; step names are unique in the whole spec. ``setup`` and
    ``teardown`` are run before and after each order, ``session_setup`` by each session before it.
    """

    sessions: Mapping[str, Sequence[Step]]
    setup: str = ""
    session_setup: str = AT_FIRST
    teardown: str = ""
    permutations: Sequence[Sequence[str]] = ()

    @property
    def text(self) -> str:
        """The spec as ``isolationtester`` reads it. Raises ``ValueError`` for a name or SQL that it would misread."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _block("setup", self.setup)
        yield from _block("teardown", self.teardown)
        for session, steps in self.sessions.items():
            yield f"\nsession {_name(session)}"
            yield from _block("setup", self.session_setup)
            for name, sql in steps:
                yield from _block(f"step {_name(name)}", sql)
        yield ""
        for permutation in self.permutations:
            yield f"permutation {' '.join(map(_name, permutation))}"


def _name(name: str) -> str:
    if not NAME.fullmatch(name) or name in KEYWORDS:
        raise ValueError(f"{name!r} is no name for a session or step: take letters, digits and _, and no keyword.")
    return name


def _block(what: str, sql: str) -> Iterator[str]:
    if "}" in sql:
        raise ValueError(f"The SQL of {what} has a closing brace, at which isolationtester would end it: {sql}")
    if sql:
        yield f"{what} {{ {sql} }}"


def call(name: str, statement: str, *, unless_found: bool = False) -> Step:
    """Return the step of one call: a transaction of its own, skipped once a call of the same client has failed.

    ``statement`` is one that returns no rows. With ``unless_found`` it is also skipped where the client's last ``look``
    found something. What came of it is in ``outcomes``, by its SQLSTATE.
    """
    condition = "current_setting('session_fix.ended') = ''"
    condition += " AND current_setting('session_fix.found') = '0'" if unless_found else ""
    return name, (
        f"DO $call$ BEGIN IF {condition} THEN {statement}; ELSE RAISE INFO 'call {name}: {SKIPPED}'; END IF; "
        "EXCEPTION WHEN OTHERS THEN PERFORM set_config('session_fix.ended', SQLSTATE, false); "
        f"RAISE INFO 'call {name}: %', SQLSTATE; END $call$;"
    )


def look(name: str, query: str) -> Step:
    """Return the step of a call that reads, and remembers for the client whether ``query`` found a row."""
    found = f"(SELECT count(*) FROM ({query}) AS found)::text"  # noqa: S608  the spec's own SQL
    return call(name, f"PERFORM set_config('session_fix.found', {found}, false)")


def outcomes(output: str) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Return, for each order that was performed, its steps and what came of each.

    That is ``OK``; for a step by ``call`` its SQLSTATE, or ``SKIPPED``; for another the text of its error, in the
    server's language (and only found where that is English: branch on a constraint's name in it, never on words);
    ``CANCELED`` for a step that its own order kept waiting, so that this order cannot happen. Of a step that an order
    names twice, it is what failed.
    """
    return [_outcome(part) for part in output.split(f"\n{STARTING}")[1:]]


def _outcome(part: str) -> tuple[tuple[str, ...], dict[str, str]]:
    first, *lines = part.splitlines()
    permutation = tuple(first.split())
    found: dict[str, str] = {}
    reported = ""  # the last step that was said to be done
    for line in lines:
        if said := SAID.fullmatch(line):
            found[said[1]] = said[2]
        elif given_up := GIVEN_UP.fullmatch(line):
            found[given_up[1]] = CANCELED
        elif (begins := REPORTED.match(line)) and begins[1] in permutation:
            reported = begins[1]
        elif (error := ERROR.fullmatch(line)) and reported:
            found.setdefault(reported, error[1])
    return permutation, {step: found.get(step, OK) for step in permutation}
