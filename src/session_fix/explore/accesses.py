"""Which rows a data API call reads and writes, and whether two calls can be swapped without anybody noticing. Pure.

Whatever is not understood touches everything: an order too many is run then, and none too few.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from session_fix.tap.calls import NOT_FILTERS, REST_PATH
from session_fix.tap.messages import Request

ALL = None  # every column of a row, its existence included; or every row of a table
EQUALS = "eq."
PROFILES = (b"accept-profile", b"content-profile")  # Source: PostgREST manual, "Schemas"
Columns = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Touch:
    """Columns of one row, named by its primary key, or of any row of a table; ``ALL`` where it cannot be told."""

    table: str
    key: str | None = ALL
    columns: Columns = ALL
    writes: bool = False

    def conflicts_with(self, other: Touch) -> bool:
        """Say whether the order of the two can matter."""
        return (
            (self.writes or other.writes)
            and self.table == other.table
            and (self.key is ALL or other.key is ALL or self.key == other.key)
            and (self.columns is ALL or other.columns is ALL or bool(self.columns & other.columns))
        )


Access = tuple[Touch, ...]
OPAQUE: Access | None = None  # may touch anything


def independent(one: Access | None, other: Access | None) -> bool:
    """Say whether two accesses may be swapped when they are neighbours."""
    if one is None or other is None:  # OPAQUE
        return False
    return not any(mine.conflicts_with(theirs) for mine in one for theirs in other)


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: what a row of ``table`` reads of its parent."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What has to be known of a database: primary keys of one column, foreign keys, and which tables are simple.

    A table is simple when a call for one of its rows touches no other row: no trigger, no policy, no unique column
    beside the key, no foreign key with an action.
    """

    keys: Mapping[str, str]
    references: tuple[Reference, ...] = ()
    simple: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request taken apart."""

    table: str
    query: list[tuple[str, str]]
    prefer: str
    body: Any

    @property
    def filters(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.query if name not in NOT_FILTERS]

    @property
    def selected(self) -> Columns:
        listed = dict(self.query).get("select", "*")
        return ALL if "*" in listed else frozenset(name.strip() for name in listed.split(","))


def access_of(request: Request, schema: Schema) -> Access | None:
    """Return what a call touches, ``OPAQUE`` when that cannot be told."""
    asked = _asked(request)
    if asked is None or asked.table not in schema.simple or asked.table not in schema.keys:
        return OPAQUE
    match request.method:
        case "GET" | "HEAD":
            return _read(asked, schema)
        case "POST":
            return _insert(asked, schema)
        case "PATCH":
            return _update(asked, schema)
        case "DELETE":
            return _delete(asked, schema)
    return OPAQUE


def _asked(request: Request) -> _Asked | None:
    path, _, after = request.target.partition("?")
    table = path.removeprefix(REST_PATH)
    query = parse_qsl(after, keep_blank_values=True)
    names = {name for name, _ in query}
    elsewhere = {request.headers.get(name, b"public") for name in PROFILES} != {b"public"}
    embeds = any("(" in value or ":" in value for name, value in query if name == "select")
    if table == path or "/" in table or elsewhere or embeds or any(not _is_column(name) for name in names):
        return None
    try:
        body = json.loads(request.body) if request.body else None
    except ValueError:
        return None
    return _Asked(table, query, request.headers.get(b"prefer", b"").decode("latin-1"), body)


def _is_column(name: str) -> bool:
    """Say whether a parameter is ours to understand: ``or``, ``and`` and a path into a related table are not."""
    return name in NOT_FILTERS or (name.isidentifier() and name not in {"and", "or", "not"})


def _row_of(asked: _Asked, schema: Schema) -> str | None:
    """Return the key of the one row that the filters can match, ``ALL`` when there may be others."""
    for name, value in asked.filters:
        if name == schema.keys[asked.table] and value.startswith(EQUALS):
            return value.removeprefix(EQUALS).lower()
    return ALL


def _filtered(asked: _Asked, schema: Schema) -> frozenset[str]:
    """Return the columns that decide which rows are meant; the key among them, for whether there is one at all."""
    return frozenset({schema.keys[asked.table], *(name for name, _ in asked.filters)})


def _read(asked: _Asked, schema: Schema) -> Access:
    selected = asked.selected
    ordered = dict(asked.query).get("order")
    columns = ALL if selected is ALL or ordered else selected | _filtered(asked, schema)
    return (Touch(asked.table, _row_of(asked, schema), columns),)


def _insert(asked: _Asked, schema: Schema) -> Access | None:
    rows = asked.body if isinstance(asked.body, list) else [asked.body]
    if not all(isinstance(row, dict) for row in rows):
        return OPAQUE
    touched: list[Touch] = []
    for row in rows:
        key = row.get(schema.keys[asked.table])
        touched.append(Touch(asked.table, key.lower() if isinstance(key, str) else ALL, ALL, writes=True))
        touched.extend(_parents(asked.table, row, schema))
    return tuple(touched)


def _parents(table: str, row: Mapping[str, Any], schema: Schema) -> Iterable[Touch]:
    """Return what the foreign keys of a row that is written look up; nothing but whether the parent is there."""
    for reference in schema.references:
        if reference.table == table and (value := row.get(reference.column)) is not None:
            is_key = schema.keys.get(reference.parent) == reference.parent_column
            key = value.lower() if is_key and isinstance(value, str) else ALL
            yield Touch(reference.parent, key, frozenset({reference.parent_column}))


def _update(asked: _Asked, schema: Schema) -> Access | None:
    if not isinstance(asked.body, dict):
        return OPAQUE
    row, written = _row_of(asked, schema), frozenset(asked.body)
    referenced = {reference.parent_column for reference in schema.references if reference.parent == asked.table}
    if written & ({schema.keys[asked.table]} | referenced):
        return OPAQUE  # the row becomes another one
    shown = asked.selected if "return=representation" in asked.prefer else frozenset()
    return (
        Touch(asked.table, row, ALL if shown is ALL else shown | _filtered(asked, schema)),
        Touch(asked.table, row, written, writes=True),
        *_parents(asked.table, asked.body, schema),
    )


def _delete(asked: _Asked, schema: Schema) -> Access:
    children = (reference for reference in schema.references if reference.parent == asked.table)
    return (
        Touch(asked.table, _row_of(asked, schema), ALL, writes=True),
        *(Touch(child.table, ALL, frozenset({child.column})) for child in children),
    )
