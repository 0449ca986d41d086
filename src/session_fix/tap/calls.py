"""What a data API call means: the table, filters and columns of a request, the rows and SQLSTATE of a reply. Pure."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from session_fix.events import describe
from session_fix.tap.messages import Request, Response

REST_PATH = "/rest/v1/"
NOT_FILTERS = frozenset({"select", "on_conflict", "columns", "order", "limit", "offset"})
SQLSTATE = re.compile(r"[0-9A-Z]{5}")


def request_fields(request: Request) -> dict[str, Any]:
    """Return what is recorded of a request: no key, no text, ids as they are."""
    url = urlsplit(request.target)
    query = parse_qsl(url.query, keep_blank_values=True)
    prefer = request.headers.get(b"prefer", b"").decode("latin-1")
    return {
        "method": request.method,
        "table": url.path.removeprefix(REST_PATH) if url.path.startswith(REST_PATH) else url.path,
        "filters": {name: _filter(value) for name, value in query if name not in NOT_FILTERS},
        "on_conflict": dict(query).get("on_conflict"),
        "prefer": sorted(part.strip() for part in prefer.split(",") if part.strip()),
        "body": describe(_json(request.body)) if request.body else None,
    }


def _filter(value: str) -> str:
    operator, dot, operand = value.partition(".")
    return f"{operator}{dot}{describe(operand)}"


def reply_fields(response: Response) -> dict[str, Any]:
    """Return what is recorded of a reply: HTTP status, SQLSTATE or PostgREST's code, and how many rows came back."""
    body = _json(response.body) if response.body else None
    code = body.get("code") if isinstance(body, dict) and response.status >= 400 else None  # noqa: PLR2004
    return {
        "status": response.status,
        "code": code,
        "sqlstate": code if isinstance(code, str) and SQLSTATE.fullmatch(code) else None,
        "rows": len(body) if isinstance(body, list) else None,
    }


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return f"not JSON: {len(body)} bytes"
