"""The data API that is to serve what a rollout leaves: where it is, its key, and what it answers to a request.

No proxy is used, and no redirect followed: the key goes to the host that was named, and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from session_fix.errors import UsageError
from session_fix.rollout.preflight import Check
from session_fix.servers import external

KEY_VARIABLE = "SUPABASE_SERVICE_ROLE_KEY"
ROOTS = ("/rest/v1", "")  # of a Supabase project, and of a bare PostgREST or where the path was given
KNOCK = "ai_sessions?select=id&limit=0"
TIMEOUT_S = 5.0
MOST_BYTES = 65_536
PUBLIC = {"accept-profile": "public"}  # which need not be the schema that it serves unless asked otherwise
CODE = re.compile(r"PGRST[0-9A-Z]{3}|[0-9A-Z]{5}")
NO_SUCH_PATH, NO_RIGHT, MORE_THAN_ONE = "PGRST125", "42501", "PGRST201"
# Source: PostgREST's documentation, "Errors"; those of five characters are PostgreSQL's own, "Error Codes".
MEANINGS = {
    "PGRST001": "it has no connection to its database",
    "PGRST002": "it could not read the schema yet",
    "PGRST200": "it knows no relationship between the tables",
    "PGRST204": "it does not know a column",
    "PGRST205": "it does not know a table",
    "42P01": "its database has no such table",
    "42703": "its database has no such column",
}
UNREADABLE = "--api takes the URL of a data API, such as https://PROJECT.supabase.co, and no user, query or fragment."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


@dataclass(frozen=True, slots=True)
class DataApi:
    """Where a data API is, and the key that it is asked with."""

    url: str
    key: str = field(repr=False)

    @property
    def host(self) -> str:
        """What a message calls it by."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``status`` 0 and ``why`` where nothing did; of an error its code, of its words nothing."""

    status: int
    code: str = ""
    rows: bool = False
    why: str = ""

    @property
    def serves(self) -> bool:
        """Whether the data API knows all that it was asked for.

        It does where PostgreSQL refuses to read it for this role, and where somebody's own key relates the tables, too:
        what is not known does not get that far.
        """
        return self.rows or self.code in (NO_RIGHT, MORE_THAN_ONE)

    @property
    def is_refusal(self) -> bool:
        """Whether it is the key that is not accepted."""
        return self.status in (401, 403) and self.code != NO_RIGHT

    @property
    def is_known(self) -> bool:
        """Whether a data API speaks, and the path is one of its own."""
        return (self.rows or bool(self.code)) and self.code != NO_SUCH_PATH

    def __str__(self) -> str:
        if not self.status:
            return f"nothing ({self.why})"
        said = f"HTTP {self.status}" + (f", {self.code}" if self.code else "")
        return said + (f": {MEANINGS[self.code]}" if self.code in MEANINGS else "")


def named(url: str, *, allow_remote: bool, environ: Mapping[str, str] = os.environ) -> DataApi:
    """Return the data API at ``url``, with its key from the environment.

    Raises ``UsageError``, which quotes no more of the URL than its host, and nothing of the key.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError(UNREADABLE) from None
    strange = not re.fullmatch(r"[!-~]+", url) or {"@", "?", "#", "\\"} & set(url)
    if strange or parts.scheme not in ("http", "https") or not host:
        raise UsageError(UNREADABLE)
    if not external.is_local(host):
        if not allow_remote:
            raise UsageError(f"{host} is not this machine. Pass --allow-remote if the key may be sent there.")
        if parts.scheme != "https":
            raise UsageError(
                f"{host} is not this machine: --api takes https there, or everybody on the way has the key."
            )
    if not (key := environ.get(KEY_VARIABLE)):
        raise UsageError(f"--api needs the data API's key in {KEY_VARIABLE}; on the command line `ps` would show it.")
    if not re.fullmatch(r"[!-~]+", key):  # http.client would quote it
        raise UsageError(f"What is in {KEY_VARIABLE} is no key: it holds a space, or a character that is not ASCII.")
    return DataApi(url.rstrip("/"), key)


def checked(api: DataApi) -> Check:
    """Return whether it answers, is a data API and accepts the key, whatever it knows of the schema by now."""
    answer = ask(api, KNOCK)
    wrong, todo = "", ""
    if not answer.status:
        wrong, todo = f"the data API at {api.host} does not answer: {answer.why}", "Look at --api, and whether it runs."
    elif answer.is_refusal:
        wrong = f"the data API at {api.host} refuses the key: {answer}"
        todo = f"Put the key of its service role into {KEY_VARIABLE}."
    elif not answer.is_known:
        wrong = f"what answers at {api.host} is no data API: {answer}"
        todo = "Look at --api: it takes the project's URL, such as https://PROJECT.supabase.co."
    return Check("api/answers", wrong, todo)


def ask(api: DataApi, query: str) -> Answer:
    """Return the answer to a GET of ``query``, such as ``ai_sessions?limit=0``, below the root that a data API has."""
    answers = []
    for root in ROOTS:
        answer = _asked(f"{api.url}{root}/{query}", api.key)
        if answer.is_known or not answer.status:
            return answer
        answers.append(answer)
    return answers[0]


def _asked(url: str, key: str) -> Answer:
    headers = {"apikey": key, "authorization": f"Bearer {key}", "accept": "application/json"} | PUBLIC
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  http or https: looked at above
    try:
        with STRAIGHT.open(request, timeout=TIMEOUT_S) as response:
            return Answer(response.status, rows=isinstance(_decoded(response.read(MOST_BYTES)), list))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, code=_code(error))
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Answer(0, why=getattr(reason, "strerror", None) or type(reason).__name__)
    except (http.client.HTTPException, UnicodeError) as error:
        return Answer(0, why=type(error).__name__)  # its words are the server's


def _code(error: urllib.error.HTTPError) -> str:
    try:
        body = _decoded(error.read(MOST_BYTES))
    except (OSError, http.client.HTTPException):
        return ""
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) and CODE.fullmatch(code) else ""


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
