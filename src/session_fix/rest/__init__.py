"""The Supabase data API in front of a database: ``lite``, ``postgrest`` and ``external``, all used the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One database's data API: a Supabase project's URL and keys.

    ``rest_path`` is where PostgREST's root lies below ``url``: Supabase has it at ``/rest/v1``, a bare PostgREST at "".
    """

    url: str
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    rest_path: str = "/rest/v1"


@dataclass(frozen=True, slots=True)
class Rest:
    """A running data API: ``open`` returns a database's endpoint, ``close`` lets go of that database."""

    kind: str
    version: str
    open: Callable[[str], Endpoint]
    close: Callable[[str], None]
