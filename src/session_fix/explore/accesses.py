"""Which rows a data API call reads and writes, and whether two calls can be swapped without anybody noticing. Pure.

Whatever is not understood touches everything: an order too many is run then, and none too few. One thing is taken for
granted: nobody depends on the order in which rows come that were inserted one after the other and not asked for sorted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from session_fix.events import UUID
from session_fix.tap.calls import NOT_FILTERS, REST_PATH
from session_fix.tap.messages import Request

ALL = None  # every column of a row, its existence included; or every row of a table
EQUALS = "eq."
RPC = "rpc/"  # Source: PostgREST manual, "Functions as RPC"
DEFAULT = object()  # a value that only the database knows
PROFILES = frozenset({b"accept-profile", b"content-profile"})  # Source: PostgREST manual, "Schemas"
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

    A table is simple when a call for one of its rows touches no other row, and no column that it does not name: no
    trigger, no policy that looks at a row, no unique column beside the key, no check of several columns, no foreign key
    with an action, no column that is generated or counted. ``on_update`` are the columns, by table, that each update of
    a row may write beside those that it names: the work of a trigger that is known.
    """

    keys: Mapping[str, str]
    references: tuple[Reference, ...] = ()
    simple: frozenset[str] = frozenset()
    rpcs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    on_update: Mapping[str, frozenset[str]] = field(default_factory=dict)


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
        listed = self.listed("select") or frozenset("*")
        return ALL if "*" in listed else listed

    def listed(self, name: str) -> Columns:
        """Return the columns that a parameter lists, None where it is not there."""
        text = dict(self.query).get(name)
        return None if text is None else frozenset(one.strip().strip('"') for one in text.split(","))


def access_of(request: Request, schema: Schema) -> Access | None:
    """Return what a call touches, ``OPAQUE`` when that cannot be told."""
    if (declared := _declared(request, schema)) is not None:
        return declared
    asked = _asked(request)
    if asked is None or asked.table not in schema.simple or asked.table not in schema.keys:
        return OPAQUE
    match request.method:
        case "GET" | "HEAD":
            return (_reads(asked, asked.selected, schema),)
        case "POST":
            return _insert(asked, schema)
        case "PATCH":
            return _update(asked, schema)
        case "DELETE":
            return _delete(asked, schema)
    return OPAQUE


def _declared(request: Request, schema: Schema) -> Access | None:
    """Return what somebody said that a function touches: any row of some tables, to read and to write."""
    name = request.target.partition("?")[0].removeprefix(f"{REST_PATH}{RPC}")
    tables = schema.rpcs.get(name)
    return None if tables is None else tuple(Touch(table, writes=True) for table in sorted(tables))


def _asked(request: Request) -> _Asked | None:
    path, _, after = request.target.partition("?")
    table = path.removeprefix(REST_PATH)
    query = parse_qsl(after, keep_blank_values=True)
    names = [name for name, _ in query]
    if table == path or "/" in table or not all(map(_is_column, names)):
        return None
    asked = _Asked(table, query, _header(request, b"prefer"), _json(request.body))
    elsewhere = any(name.lower() in PROFILES and value != b"public" for name, value in request.raw_headers)
    twice = any(names.count(name) > 1 for name in NOT_FILTERS)
    listed = (asked.listed("select") or frozenset()) | (asked.listed("columns") or frozenset())
    plain = all(column.isidentifier() or column == "*" for column in listed)  # no embedded table, cast, path into JSON
    return asked if plain and not (elsewhere or twice) else None


def _header(request: Request, name: bytes) -> str:
    return b",".join(value for found, value in request.raw_headers if found.lower() == name).decode("latin-1")


def _json(body: bytes) -> Any:
    """Return what a body says, its text where it is no JSON."""
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return body.decode("latin-1")


def _is_column(name: str) -> bool:
    """Say whether a parameter is ours to understand: ``or``, ``and`` and a path into a related table are not."""
    return name in NOT_FILTERS or (name.isidentifier() and name not in {"and", "or", "not"})


def _row_of(asked: _Asked, schema: Schema) -> str | None:
    """Return the key of the one row that the filters can match, ``ALL`` when there may be others."""
    for name, value in asked.filters:
        if name == schema.keys[asked.table] and value.startswith(EQUALS):
            return _named(value.removeprefix(EQUALS))
    return ALL


def _named(value: Any) -> str | None:
    """Return a key that names one row whatever type its column has: two texts may well be one number, or one UUID."""
    return value.lower() if isinstance(value, str) and UUID.fullmatch(value) else ALL


def _reads(asked: _Asked, columns: Columns, schema: Schema) -> Touch:
    """Return what is read to find the rows and show these columns: of one row also its key, for whether it is there.

    Which of several rows come, and in which order, may change with any of their columns.
    """
    row = _row_of(asked, schema)
    if row is ALL or columns is ALL:
        return Touch(asked.table, row)
    return Touch(asked.table, row, columns | {schema.keys[asked.table], *(name for name, _ in asked.filters)})


def _insert(asked: _Asked, schema: Schema) -> Access | None:
    rows = asked.body if isinstance(asked.body, list) else [asked.body]
    if not all(isinstance(row, dict) for row in rows):
        return OPAQUE
    names = asked.listed("columns")
    touched: list[Touch] = []
    for body in rows:
        row = body if names is None else {name: body.get(name) for name in names}
        touched.append(Touch(asked.table, _named(row.get(schema.keys[asked.table])), ALL, writes=True))
        defaults = {one.column: DEFAULT for one in schema.references if one.table == asked.table}
        touched.extend(_parents(asked.table, defaults | row, schema))
    return tuple(touched)


def _parents(table: str, row: Mapping[str, Any], schema: Schema) -> Iterable[Touch]:
    """Return what the foreign keys of a row that is written look up; nothing but whether the parent is there."""
    for reference in schema.references:
        if reference.table == table and (value := row.get(reference.column)) is not None:
            is_key = schema.keys.get(reference.parent) == reference.parent_column
            yield Touch(reference.parent, _named(value) if is_key else ALL, frozenset({reference.parent_column}))


def _update(asked: _Asked, schema: Schema) -> Access | None:
    if not isinstance(asked.body, dict) or asked.listed("columns"):
        return OPAQUE
    written = frozenset(asked.body) | schema.on_update.get(asked.table, frozenset())
    referenced = {reference.parent_column for reference in schema.references if reference.parent == asked.table}
    if written & ({schema.keys[asked.table]} | referenced):
        return OPAQUE  # the row becomes another one
    shown = asked.selected if "return=representation" in asked.prefer else frozenset()
    return (
        _reads(asked, shown, schema),
        Touch(asked.table, _row_of(asked, schema), written, writes=True),
        *_parents(asked.table, asked.body, schema),
    )


def _delete(asked: _Asked, schema: Schema) -> Access:
    children = (reference for reference in schema.references if reference.parent == asked.table)
    return (
        Touch(asked.table, _row_of(asked, schema), ALL, writes=True),
        *(Touch(child.table, ALL, frozenset({child.column})) for child in children),
    )
