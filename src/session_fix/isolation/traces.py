"""What a test left behind, in words: the judgement of facts (pure). An empty list means: nothing but rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from session_fix.isolation.facts import Facts, Layout, Session, Table

CLIENT = "client backend"


def of_sessions(found: Iterable[Session], prepared: Sequence[str], *, ours: frozenset[int], rest: str) -> list[str]:
    """Return what is still connected or half done, but for our own connections and an idle data API.

    ``ours`` are process ids, ``rest`` is the data API's role.
    """
    traces = [f"the prepared transaction {gid!r}" for gid in prepared]
    for session in found:
        if session.pid in ours or (rest and session.user == rest and session.state == "idle"):
            continue
        if rest and session.user == rest:
            traces.append(f"a request of the data API that is still {session.state}")
        elif session.kind == CLIENT:
            traces.append(f"an open connection of {session.user} ({session.state or 'starting'})")
        else:
            traces.append(f"a {session.kind}")
    return traces


def of_facts(before: Facts, after: Facts, layout: Layout) -> list[str]:
    """Return whatever differs between a database and itself when it was handed out, rows of tables left out."""
    return list(_differences(before, after, layout))


def _differences(before: Facts, after: Facts, layout: Layout) -> Iterator[str]:
    if after.catalog.written or after.catalog.rows != before.catalog.rows:
        yield "a change of the catalog: DDL, a comment, a grant, a large object, statistics or a temporary schema"
        return  # the names below may be wrong by now
    for name, was, found in zip(layout.sequences, before.sequences, after.sequences, strict=True):
        if was != found:
            yield f"the sequence {name} at {found.split()[0]}"
    for name, table in zip(layout.tables, after.tables, strict=True):
        if name in layout.views and table.written:
            yield f"the materialized view {name} refreshed"
    if after.advisory_locks:
        yield f"{after.advisory_locks} advisory lock(s)"
    if after.settings != before.settings:
        yield "a setting, comment, owner, slot or subscription of the database itself"
    if after.in_place != before.in_place:
        yield "ANALYZE, VACUUM or CREATE INDEX of a table"


def dirty(before: Facts, tables: Sequence[Table], layout: Layout) -> list[tuple[str, int, bool]]:
    """Return the tables whose rows are not the state's: name, rows written since, whether a row of the state is gone.

    An updated row is a written one in the place of one that is gone.
    """
    return [
        (name, found.written, found.rows - found.written != was.rows)
        for name, was, found in zip(layout.tables, before.tables, tables, strict=True)
        if found.written or found.rows != was.rows
    ]
