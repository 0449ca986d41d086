"""What an audit reads of a database, as frozen values: facts, without a judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` as ``format_type()`` writes it. ``readable``: the audit's role may select it."""

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint of a table. ``kind``: p, f, u, c, n or x; ``target`` and the actions are a foreign key's.

    Source: pg_constraint's contype, confdeltype and confupdtype, PostgreSQL manual, chapter "System Catalogs".
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    target: str = ""
    target_columns: tuple[str, ...] = ()
    on_delete: str = ""
    on_update: str = ""
    deferrable: bool = False
    valid: bool = True
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Index:
    """An index; ``building``: a CREATE INDEX or REINDEX is at it right now."""

    name: str
    columns: tuple[str, ...]
    valid: bool = True
    building: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that does not fire in ordinary sessions; ``constraint`` is the foreign key that it would check."""

    name: str
    constraint: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of row level security. ``command``: r, a, w, d or * for all; PUBLIC among ``roles`` means everybody."""

    name: str
    command: str
    roles: frozenset[str]
    using: str | None = None
    check: str | None = None
    permissive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A relation under the name of a table of ours. ``kind``: r is a table, v a view.

    ``rows`` is the planner's estimate, None before the first ANALYZE. Sizes are None where they could not be read.
    ``rights`` are those that a role has in effect, also through PUBLIC and on single columns.
    """

    name: str
    kind: str = "r"
    owner: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    row_security: bool = False
    hides_rows: bool = False
    rows: int | None = None
    heap_bytes: int | None = None
    total_bytes: int | None = None
    rights: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """A view that reads our tables; ``invoker``: with its reader's rights. ``roles`` of the data API may use it."""

    name: str
    invoker: bool = False
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Definer:
    """A SECURITY DEFINER function that names our tables. ``roles`` of the data API may call it."""

    name: str
    search_path: bool = False
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are of a kind; one that is not ``exact`` is worked out from ``sampled`` rows."""

    number: int
    exact: bool = True
    sampled: int = 0


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that somebody has open. One that was prepared has no ``pid``. Never what it executes."""

    pid: int | None
    age_s: int
    application: str
    state: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """What could not be read, and why. ``matters``: something to repair could be there."""

    what: str
    why: str
    matters: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was read, in one snapshot; what could not be is in ``unseen``.

    ``versions`` is None where there is no table ``alembic_version``, or it cannot be read. ``roles`` are those of the
    data API that exist, ``usage`` those of them that may use the schema, ``bypass`` those that no policy binds.
    ``objects`` is the schema as ``objects.read`` returns it, None where it could not be read. ``time_zones`` are by
    whose they are, in words. ``counts`` are by the names of row checks.
    """

    database: str
    role: str
    version: str
    replica: bool = False
    replicas: int = 0
    pooler: tuple[str, ...] = ()
    has_versions: bool = False
    versions: tuple[str, ...] | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    referencing: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    usage: frozenset[str] = frozenset()
    bypass: frozenset[str] = frozenset()
    views: tuple[View, ...] = ()
    definers: tuple[Definer, ...] = ()
    objects: Mapping[str, str] | None = None
    time_zones: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    counts: Mapping[str, Count] = field(default_factory=dict)
    transactions: tuple[Transaction, ...] = ()
    unseen: tuple[Unseen, ...] = ()
