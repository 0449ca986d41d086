"""Tokens as Supabase's sign-in gives them to a browser: who it is, and the role that the data API takes for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

LIFETIME_S = 24 * 3600


def token(secret: str, **claims: Any) -> str:
    """Return a token signed with the secret, good for a day unless ``exp`` says otherwise. Source: RFC 7519, HS256."""
    claims = {"iss": "session-fix", "exp": int(time.time()) + LIFETIME_S} | claims
    parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(secret.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64(signature)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
