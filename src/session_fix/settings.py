"""Which stack to run on: flags, then ``[tool.session-fix]`` of the nearest pyproject.toml, then the environment."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from session_fix.errors import UsageError
from session_fix.rest import Keys, postgrest
from session_fix.servers import docker, embedded

POSTGRES_KINDS = ("embedded", "docker", "external")
REST_KINDS = ("lite", "postgrest", "external")
ISOLATIONS = ("recycle", "clone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides what runs. Secrets are kept out of its repr."""

    postgres: str = "embedded"
    postgres_version: str = embedded.DEFAULT_VERSION
    postgres_image: str = docker.DEFAULT_IMAGE
    dsn: str = field(default="", repr=False)
    allow_remote: bool = False
    durable: bool = False
    isolation: str = "recycle"
    keep_failed: int = 5
    rest: str = "lite"
    postgrest_image: str = postgrest.DEFAULT_IMAGE
    supabase_url: str = ""
    supabase_database: str = ""
    supabase_keys: Keys = field(default=Keys("", ""), repr=False)
    service: str = ""
    python: str = ""


# Source of each default that is not a constant: an environment variable. Secrets have no flag: `ps` shows those.
VARIABLES = {
    "postgres_image": "SESSION_FIX_POSTGRES_IMAGE",
    "postgrest_image": "SESSION_FIX_POSTGREST_IMAGE",
    "dsn": "SESSION_FIX_DSN",
    "supabase_url": "SESSION_FIX_SUPABASE_URL",
    "supabase_database": "SESSION_FIX_SUPABASE_DATABASE",
}
CHOICES = {
    "postgres": POSTGRES_KINDS,
    "rest": REST_KINDS,
    "isolation": ISOLATIONS,
    "postgres_version": tuple(embedded.INSTALLS),
}
TYPES = {bool: "true or false", int: "a whole number", str: "a text in quotes"}
NOT_IN_A_FILE = frozenset({"dsn", "supabase_keys"})


def load(flags: Mapping[str, Any], *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; a flag that is None was not given.

    Raises ``UsageError`` naming the key and what it can be.
    """
    values: dict[str, Any] = {key: environ[name] for key, name in VARIABLES.items() if environ.get(name)}
    values["supabase_keys"] = Keys(environ.get("SUPABASE_ANON_KEY", ""), environ.get("SUPABASE_SERVICE_ROLE_KEY", ""))
    values |= _from_file(folder or Path.cwd())
    values |= _absolute({key: value for key, value in flags.items() if value is not None}, Path.cwd())
    for key, choices in CHOICES.items():
        if key in values and values[key] not in choices:
            raise UsageError(f"{key} is {values[key]!r}; it can be {', '.join(choices)}.")
    settings = Settings(**values)
    if settings.keep_failed < 0:
        raise UsageError(f"keep_failed is {settings.keep_failed}; it can be 0, to keep none, or more.")
    if settings.postgres == "external" and not settings.dsn:
        raise UsageError("--postgres external needs a DSN in SESSION_FIX_DSN; a flag would show its password to `ps`.")
    if settings.rest == "external" and not (settings.supabase_url and settings.supabase_database):
        raise UsageError("--rest external needs SESSION_FIX_SUPABASE_URL and SESSION_FIX_SUPABASE_DATABASE.")
    if settings.rest == "external" and settings.postgres != "external":
        raise UsageError("--rest external is in front of a server of yours; add --postgres external.")
    if settings.rest == "external" and not settings.supabase_url.startswith("http://"):
        raise UsageError("SESSION_FIX_SUPABASE_URL must start with http://: the tap reads the calls on their way.")
    if settings.rest == "postgrest" and settings.postgres != "docker":
        raise UsageError("--rest postgrest runs in a container beside the server; add --postgres docker.")
    return settings


def _from_file(folder: Path) -> dict[str, Any]:
    for parent in (folder, *folder.parents):
        if (path := parent / "pyproject.toml").is_file():
            try:
                found = tomllib.loads(path.read_bytes().decode())
            except ValueError as error:  # no UTF-8, or no TOML
                raise UsageError(f"{path} is not TOML: {error}") from error
            for name in ("tool", "session-fix"):
                found = found.get(name, {})
                if not isinstance(found, dict):
                    raise UsageError(f"{name} in {path} must be a table.")
            values = {_known(key, path): _of_its_type(key, value, path) for key, value in found.items()}
            return _absolute(values, parent)
    return {}


def _absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with paths made absolute: the service runs in a folder of its own. A bare name stays one."""
    paths = {key: values[key] for key in ("python", "service") if "/" in values.get(key, "")}
    return values | {key: str(folder / path) for key, path in paths.items()}


def _of_its_type(key: str, value: Any, path: Path) -> Any:
    wanted = type(getattr(Settings(), key.replace("-", "_")))
    if type(value) is not wanted:
        raise UsageError(f"{key} in {path} must be {TYPES[wanted]}.")
    return value


def _known(key: str, path: Path) -> str:
    name = key.replace("-", "_")
    known = {one.name for one in fields(Settings)} - NOT_IN_A_FILE
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0].replace('_', '-')!r}?" if near else ""
    raise UsageError(f"[tool.session-fix] in {path} has no key {key!r}.{hint}")
