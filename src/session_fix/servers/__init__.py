"""Throwaway PostgreSQL servers: ``embedded``, ``docker`` and ``external``, all used the same way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how to reach it as a superuser, or as a role that may create databases and roles.

    ``admin`` holds libpq connection parameters without ``dbname``; ``kind`` and ``version`` go into every report.
    """

    kind: str
    version: str
    admin: dict[str, str]
