"""The Supabase data API in front of a database: ``lite``, ``postgrest`` and ``external``, all used the same way."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

# The tap connects to a data API without a proxy for the internet, so whoever waits for one does, too.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Keys:
    """A Supabase project's two keys, and the secret that signs tokens, "" where only the project knows it."""

    anon: str = field(repr=False)
    service_role: str = field(repr=False)
    jwt_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One database's data API, without its keys.

    ``rest_path`` is where PostgREST's root lies below ``url``: Supabase has it at ``/rest/v1``, a bare PostgREST at "".
    """

    url: str
    rest_path: str = "/rest/v1"


@dataclass(frozen=True, slots=True)
class Rest:
    """A running data API: ``open`` returns a database's endpoint, ``close`` lets go of that database.

    ``is_idle`` waits for the requests to a database that are under way, and says whether all have ended. ``login`` is
    the role it connects as. ``database`` is the name of the only database that it can serve, None when it serves any.
    """

    kind: str
    version: str
    open: Callable[[str], Endpoint]
    close: Callable[[str], None]
    database: str | None = None
    login: str = ""
    is_idle: Callable[[str], bool] = lambda _: False
