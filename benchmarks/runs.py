"""Run contenders: pytest in a process of its own, several rounds in turn, and nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from benchmarks.figures import INSTALLED, Row, row
from session_fix import folders
from session_fix.errors import SessionFixError
from session_fix.servers import docker, embedded

CONTENDERS = Path(__file__).parent / "contenders"
TIMEOUT_S = 900.0
GRACE_S = 30.0
POSTGRES = embedded.DEFAULT_VERSION
IMAGE = os.environ.get("SESSION_FIX_POSTGRES_IMAGE") or docker.DEFAULT_IMAGE
Found = TypeVar("Found")
Key = tuple[str, str]  # a contender and its setting


class FailedError(Exception):
    """A contender gave no figures; the message says why."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 3
    more_rounds: int = 9  # of what takes seconds
    tests: int = 200
    tests_on_disk: int = 50
    tests_with_a_container: int = 3
    calls: int = 200
    pgbench_s: int = 3
    explorations: int = 30
    hunts: int = 5
    sessions: int = 200_000  # each with ten interactions
    held_s: float = 5.0


TINY = Sizes(
    rounds=1,
    more_rounds=1,
    tests=2,
    tests_on_disk=1,
    tests_with_a_container=1,
    calls=3,
    pgbench_s=1,
    explorations=1,
    hunts=1,
    sessions=100,
    held_s=0.5,
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to give tests a database: its name in the tables, and how pytest runs it.

    ``fixture`` is one of ``contenders/conftest.py``, ``needs`` a package or "docker".
    """

    name: str
    setting: str = ""
    fixture: str = ""
    test: str = "test_stores.py::test_stores"
    plugin: str = ""
    options: tuple[str, ...] = ()
    needs: str = ""
    refuses_root: bool = False

    @property
    def key(self) -> Key:
        """Return what tells it from the others."""
        return self.name, self.setting


@dataclass(frozen=True, slots=True)
class Run:
    """What one pytest process took."""

    tests_ms: list[float]
    loop_ms: float
    measured_ms: dict[str, float]
    wall_ms: float


def interleave(contenders: Mapping[Key, Callable[[], Found]], rounds: int) -> dict[Key, list[Found] | FailedError]:
    """Measure all in turn, ``rounds`` times, so that drift of the machine hits all alike.

    Whoever fails once is not asked again, and has its reason instead of results.
    """
    found: dict[Key, Any] = {key: [] for key in contenders}
    for number in range(1, rounds + 1):
        for key, measure in contenders.items():
            if isinstance(found[key], FailedError):
                continue
            print(f"  round {number} of {rounds}: {', '.join(filter(None, key))}", file=sys.stderr, flush=True)
            try:
                found[key].append(measure())
            except (FailedError, SessionFixError, psycopg.Error, OSError) as error:
                found[key] = error if isinstance(error, FailedError) else FailedError(str(error))
                print(f"    failed: {error}", file=sys.stderr)
    return found


def together(some: list[Found] | FailedError, more: list[Found] | FailedError) -> list[Found] | FailedError:
    """Return what was measured in both; whoever failed has its reason."""
    if isinstance(some, FailedError):
        return some
    return more if isinstance(more, FailedError) else [*some, *more]


def rows(
    benchmark: str,
    found: Mapping[Key, list[Found] | FailedError],
    values_ms: Callable[[list[Found]], Sequence[float]],
    more: Callable[[list[Found]], dict[str, float]] = lambda _: {},
) -> list[Row]:
    """Return a row for each contender: its values and further figures, or why there are none."""
    return [
        Row(benchmark, *key, error=str(results))
        if isinstance(results, FailedError)
        else row(benchmark, *key, values_ms(results), **more(results))
        for key, results in found.items()
    ]


def missing(needs: str) -> str | None:
    """Return why a contender cannot run here, None when nothing speaks against it."""
    if needs == "docker":
        return (why := docker.missing()) and f"no engine: {why}"
    if needs and importlib.util.find_spec(needs) is None:
        return f"{needs} is not installed; requirements/bench.txt has it"
    return None


def run_pytest(contender: Contender, *, tests: int, dsn: str = "") -> Run:
    """Run ``tests`` tests of a contender in a pytest with no other plugins. Raises ``FailedError``."""
    if why := missing(contender.needs):
        raise FailedError(why)
    prefix = _as_nobody() if contender.refuses_root and os.geteuid() == 0 else []
    with _scratch(on_disk=contender.setting == INSTALLED, prefix=prefix) as folder:
        result, output = folder / "result.json", folder / "output"
        asked = {
            "contender": contender.fixture,
            "tests": tests,
            "tuned": contender.setting != INSTALLED,
            "dsn": dsn,
            "image": IMAGE,
            "pg_ctl": str(embedded.binaries(POSTGRES) / "pg_ctl"),
            "result": str(result),
        }
        plugins = [part for name in ("no:cacheprovider", contender.plugin) if name for part in ("-p", name)]
        command = [
            *prefix,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-o",
            "console_output_style=classic",
            *plugins,
            *contender.options,
            contender.test,
        ]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "PYTEST_"))}
        env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "BENCHMARK": json.dumps(asked), "TMPDIR": str(folder)}
        env.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # one more image to pull and start, to its disadvantage
        shutil.copytree(CONTENDERS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        began = time.perf_counter()
        code = performed(command, output, env=env, cwd=folder / "tests")
        wall_ms = (time.perf_counter() - began) * 1000
        if code != 0 or not result.is_file():
            raise FailedError(f"pytest ended with {code}: {reason(output.read_text(errors='replace'))}")
        return Run(**json.loads(result.read_text()), wall_ms=wall_ms)


def _as_nobody() -> list[str]:
    """Return what to put before a command that PostgreSQL must not find to be root's.

    The capability lets it read an interpreter in root's home, and write to a folder that root made.
    """
    nobody = pwd.getpwnam("nobody")
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *capability]


@contextmanager
def _scratch(*, on_disk: bool, prefix: list[str]) -> Iterator[Path]:
    """Yield a new folder; servers that still run in it end with it."""
    base = Path(tempfile.gettempdir()) if on_disk else folders.fastest_temporary()
    folder = Path(tempfile.mkdtemp(prefix="session-fix-bench-", dir=base))
    try:
        yield folder
    finally:
        for server in folder.rglob("postmaster.pid"):
            pg_ctl = embedded.binaries(POSTGRES) / "pg_ctl"
            stop = [*prefix, pg_ctl, "stop", "-m", "immediate", "-D", server.parent]
            subprocess.run(stop, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def performed(command: list[str], output: Path, **how: Any) -> int:
    """Run a command in a session of its own and return its exit code; when we are ended, it is, with its teardown."""
    with output.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **how)
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"not finished after {TIMEOUT_S:g} s") from error
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    continue


def reason(output: str) -> str:
    """Return the line of a failed command's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it wrote nothing"]
    errors = [line for line in lines if line.startswith("E  ")]  # of a chain of exceptions the last says what happened
    return errors[-1] if errors else lines[-1]
