"""However a whole run is killed, none of its processes and folders outlives it.

The run under test is a process group of its own, its folders lie in a place of their own, and every process of it is
recognised by a variable in its environment or by where it works.
"""

import os
import random
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from session_fix import folders
from session_fix.servers import clusters

pytestmark = pytest.mark.needs_proc
CHECKOUT = Path(__file__).parents[1]
MARKER, RUNS = "SESSION_FIX_TEST_RUN", "SESSION_FIX_TEST_RUNS"
GONE_WITHIN_S = 10.0
# What a run has reached, by a word on a command line of its processes, and how long the next stage takes at most.
STAGES = {"pytest": 3.0, "exec(eval(sys.stdin": 2.0, "guard.main": 2.0, "runner.py": 4.0}

# A plugin, because importing our package before pytest has seen it would keep its assertions from being rewritten.
PLUGIN = f"""
import os
from pathlib import Path

def pytest_configure(config):
    from session_fix import folders
    folders.SHM = Path(os.environ["{RUNS}"])
"""
REPLAY = f"""
import os
from pathlib import Path
from session_fix import cli, folders
folders.SHM = Path(os.environ["{RUNS}"])
cli.main()
"""
PYTEST = ("-m", "pytest", "-p", "private_runs", "-p", "no:cacheprovider", "-n", "2", "test_session_fix.py", "scenarios")


@dataclass
class Run:
    """A run that is going to be killed: its process, its marker, and the folder that holds all of its own."""

    process: subprocess.Popen
    marker: bytes
    folder: Path

    def processes(self):
        """Return what is left of it, by process id; zombies are not."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is ending
                if self._is_ours(process) and (command := (process / "cmdline").read_bytes()):
                    found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:150]
        return found

    def has(self, word):
        """Say whether one of its processes has that word on its command line."""
        return any(word in command for command in self.processes().values())

    def _is_ours(self, process):
        return self.marker in (process / "environ").read_bytes() or (process / "cwd").readlink().is_relative_to(
            self.folder
        )

    def left_behind(self):
        """Return the folders that remain after a sweep, relative to that folder."""
        folders.sweep()
        with suppress(FileNotFoundError):
            return [str(path.relative_to(self.folder)) for path in folders.runs().iterdir()]
        return []


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Return a function that starts a run; what is left of it is killed with the test, process by process."""
    begun, made = [], ExitStack()

    def start(*command):
        folder = made.enter_context(folders.run_folder("kill")).path  # swept, should this run be killed itself
        folder.chmod(0o711)  # root's PostgreSQL runs as somebody else
        (tmp_path / "private_runs.py").write_text(PLUGIN)
        marker = uuid.uuid4().hex
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        env |= {MARKER: marker, RUNS: str(folder), "PYTHONPATH": f"{tmp_path}:{CHECKOUT / 'src'}"}
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=CHECKOUT, env=env, stdout=output, stderr=output, start_new_session=True
            )
        monkeypatch.setattr(folders, "SHM", folder)
        begun.append(Run(process, f"{MARKER}={marker}".encode(), folder))
        return begun[-1]

    yield start
    for run in begun:
        for pid in run.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.process.wait()
    made.close()


@pytest.fixture
def end_at(eventually):
    """Return a function that ends a run some time after it reached a stage, and checks that nothing is left of it."""

    def check(run, stage, moment_s, end):
        eventually(lambda: run.has(stage) or run.process.poll() is not None, timeout_s=60, of_what=f"{stage} runs")
        with suppress(subprocess.TimeoutExpired):  # the one wait for time: a kill comes when it comes
            run.process.wait(moment_s)
        running = run.processes()
        print(  # noqa: T201  pytest shows it with a failure
            f"ended {moment_s:.3f} s after {stage}, with {len(running)} processes:", *running.values(), sep="\n  "
        )
        end(run.process.pid)
        run.process.wait(60)
        eventually(lambda: not run.processes(), timeout_s=GONE_WITHIN_S, of_what=Left(run))
        assert run.left_behind() == []
        assert any(stage in command for command in running.values()), "it was over before it was ended"

    return check


@dataclass
class Left:
    """What is left of a run, looked up when somebody wants to print it."""

    run: Run

    def __str__(self):
        return f"no process is left; there are {self.run.processes()}"


def moment(seed):
    """Return a stage of a run and a random moment in it, the same for the same seed."""
    stage = list(STAGES)[seed % len(STAGES)]
    return stage, random.Random(f"kill {seed}").uniform(0, STAGES[stage])  # noqa: S311  no secret


def kill(pid):
    """End the one process, as the OOM killer does."""
    os.kill(pid, signal.SIGKILL)


def interrupt_the_group(pid):
    """End it as Ctrl-C does in a terminal."""
    os.killpg(pid, signal.SIGINT)


NIGHTLY = [pytest.param(seed, marks=pytest.mark.nightly) for seed in range(4, 24)]


@pytest.mark.parametrize("seed", [1, 2, 3, *NIGHTLY])
def test_nothing_outlives_a_test_run_whose_controller_is_killed(begin, end_at, seed):
    """A CI system that runs out of patience or memory sends SIGKILL, and often to the controller only."""
    end_at(begin(*PYTEST), *moment(seed), kill)


@pytest.mark.parametrize("seed", [3, *NIGHTLY])
def test_nothing_outlives_an_interrupted_test_run(begin, end_at, seed):
    """Ctrl-C reaches every process of the terminal's group at once, wherever each of them is."""
    end_at(begin(*PYTEST), *moment(seed), interrupt_the_group)


def test_nothing_outlives_a_terminated_test_run(begin, end_at, eventually):
    """A cancelled CI job gets SIGTERM; before it, the check has to see the workers and all that they started."""
    run = begin(*PYTEST)
    for word in (*STAGES, "postgres -D", "postgres: ", "server-"):
        eventually(lambda word=word: run.has(word), timeout_s=60, of_what=f"{word} is found")
    assert list(run.folder.glob("session-fix-*/pg-*"))
    end_at(run, *moment(3), lambda pid: os.kill(pid, signal.SIGTERM))


@pytest.fixture
def no_clusters_kept(tmp_path, monkeypatch):
    """Hide the clusters of the user's cache, and nothing else that is in it."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for kept in folders.cache().iterdir():
        if kept.name != clusters.FOLDER:
            (cache / kept.name).symlink_to(kept)
    monkeypatch.setenv("SESSION_FIX_CACHE", str(cache))


@pytest.mark.parametrize("end", [kill, interrupt_the_group])
@pytest.mark.parametrize("stage", ["initdb", "postgres -D"])
@pytest.mark.usefixtures("no_clusters_kept")
def test_nothing_outlives_a_replay_that_is_ended_while_it_starts(begin, end_at, stage, end):
    """Server, data API and three services are being started by several threads at that moment."""
    end_at(begin("-c", REPLAY, "replay"), stage, 0, end)


@pytest.mark.parametrize("end", [kill, interrupt_the_group])
def test_nothing_outlives_a_warm_replay_that_is_ended_while_it_starts(begin, end_at, end):
    """A copy of a cluster is unpacked by a process of its own, beside the guard of the server."""
    end_at(begin("-c", REPLAY, "replay"), "postgres -D", 0, end)
