"""A data API that somebody else runs, in front of one database that we may drop and make anew."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from session_fix.errors import NoRestError, UsageError
from session_fix.rest import DIRECT, Endpoint, Keys, Rest

READY_TIMEOUT_S = 60.0


@contextmanager
def start(url: str, database: str, keys: Keys) -> Iterator[Rest]:
    """Yield the data API at ``url``, a Supabase-like URL with ``/rest/v1`` below it, in front of ``database``.

    Raises ``UsageError`` without keys; ``open`` raises ``NoRestError`` while it does not show our tables.
    """
    if not (keys.anon and keys.service_role):
        raise UsageError("--rest external needs SUPABASE_ANON_KEY and SUPABASE_SERVICE_ROLE_KEY.")
    url = url.rstrip("/")

    def open_(_: str) -> Endpoint:
        _wait_for_tables(url, keys)
        return Endpoint(url)

    yield Rest("external", url, open_, lambda _: None, database)


def _wait_for_tables(url: str, keys: Keys) -> None:
    """Return once the data API shows the tables: it finds the new database and schema at its own pace."""
    headers = {"apikey": keys.service_role, "authorization": f"Bearer {keys.service_role}"}
    asked = urllib.request.Request(f"{url}/rest/v1/ai_interactions?select=id&limit=1", headers=headers)  # noqa: S310
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with DIRECT.open(asked, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise NoRestError(f"The data API at {url} does not show our tables: {error}") from error
        time.sleep(0.1)
