"""What a data API call means: the table, filters and columns of a request, the rows and SQLSTATE of a reply. Pure."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from session_fix.events import describe
from session_fix.tap.messages import Request, Response

REST_PATH = "/rest/v1/"
FIRST_ERROR = 400
NOT_FILTERS = frozenset({"select", "on_conflict", "columns", "order", "limit", "offset"})
# Source: PostgREST manual, "Horizontal Filtering"
OPERATOR = re.compile(
    r"(not\.)?(eq|gte?|lte?|neq|i?like|i?match|in|is|isdistinct|(pl|ph|w)?fts|cs|cd|ov|sl|sr|nxr|nxl|adj)"
    r"(\([a-z]+\))?\."
)
DECODE = json.JSONDecoder().decode
SQLSTATE = re.compile(r"[0-9A-Z]{5}")


def request_fields(request: Request) -> dict[str, Any]:
    """Return what is recorded of a request: no key, no text, ids as they are."""
    path, _, after = request.target.partition("?")
    query = parse_qsl(after, keep_blank_values=True)
    prefer = request.headers.get(b"prefer", b"").decode("latin-1")
    return {
        "method": request.method,
        "table": path.removeprefix(REST_PATH),
        "filters": {name: _filter(value) for name, value in query if name not in NOT_FILTERS},
        "on_conflict": dict(query).get("on_conflict"),
        "prefer": sorted(part.strip() for part in prefer.split(",") if part.strip()),
        "body": describe(_json(request.body)) if request.body else None,
    }


def _filter(value: str) -> str:
    """Return a filter with its operand described; what has no operator that PostgREST knows is described whole."""
    operator = OPERATOR.match(value)
    return f"{operator[0]}{describe(value[operator.end() :])}" if operator else str(describe(value))


def reply_fields(response: Response) -> dict[str, Any]:
    """Return what is recorded of a reply: HTTP status, SQLSTATE or PostgREST's code, and how many rows came back."""
    body = _json(response.body) if response.body else None
    code = str(body["code"]) if response.status >= FIRST_ERROR and isinstance(body, dict) and body.get("code") else None
    return {
        "status": response.status,
        "code": code,
        "sqlstate": code if code and SQLSTATE.fullmatch(code) else None,
        "rows": len(body) if isinstance(body, list) else None,
    }


def _json(body: bytes) -> Any:
    try:
        return DECODE(body.decode())
    except (ValueError, RecursionError):
        return f"not JSON: {len(body)} bytes"
