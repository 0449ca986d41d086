"""Connections that lead where their parameters say, whatever service the user's environment names."""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg


class LeftOut:
    """Keeps a variable out of this process's environment while anybody is inside; several threads may be."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._inside = 0
        self._value: str | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._value = os.environ.pop(self._name, None)
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._value is not None:
                os.environ[self._name] = self._value


# libpq takes what the parameters leave out from this service, and gives up where there is none of that name. No
# parameter says "none": an empty name is looked up like any other. Source: parseServiceInfo() in libpq's fe-connect.c.
NO_SERVICE = LeftOut("PGSERVICE")


def connect(dsn: str, **options: Any) -> psycopg.Connection:
    """Open a connection as ``psycopg.connect`` does, but without the user's PGSERVICE."""
    with NO_SERVICE:
        return psycopg.connect(dsn, **options)
