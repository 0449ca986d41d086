"""The harness's half: start the runner under a guard, send it calls, collect outcomes and steps."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from session_fix import folders
from session_fix.errors import ProcessEndedError, ServiceError, ServiceHungError, ServiceNotLoadedError
from session_fix.events import Recorder, describe
from session_fix.host import runner
from session_fix.processes import GuardedProcess, guarded
from session_fix.rest import Keys

LOAD_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
STACKS_TIMEOUT_S = 2.0
CHANNEL_FILE = "channel.sock"
KEY_VARIABLES = ("SUPABASE_KEY", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function of a layer."""

    layer: str
    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returned, or what it raised: its type, message and, where the data API gave one, its SQLSTATE."""

    value: Any = None
    error_type: str | None = None
    message: str = ""
    code: str | None = None


class Service:
    """A service directory, running. Its standard output and error are in ``process.last_lines()``."""

    def __init__(self, directory: Path, process: GuardedProcess, connection: socket.socket) -> None:
        self.directory = directory
        self.process = process
        self.loaded: frozenset[str] = frozenset()
        self.missing: Mapping[str, str] = {}
        self.url: str | None = None
        self.python = ""
        self._connection = connection
        self._recorder: Recorder | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[tuple[int, Outcome]]] = {}
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="session-fix service", daemon=True)
        self._reader.start()

    def record_to(self, recorder: Recorder | None) -> None:
        """Send the steps inside the service to ``recorder`` from now on."""
        self._recorder = recorder

    def call(self, layer: str, function: str, *args: Any, **kwargs: Any) -> Outcome:
        """Call one function of a layer and return its outcome."""
        return self.call_together([Call(layer, function, args, kwargs)])[0]

    def call_together(self, calls: Sequence[Call], *, timeout_s: float = CALL_TIMEOUT_S) -> list[Outcome]:
        """Run the calls in threads of their own that start together; return the outcomes in the order of the calls.

        Raises ``ServiceHungError`` with every thread's stack when one has no outcome after ``timeout_s`` seconds,
        ``ServiceError`` when the service dies, ``ServiceNotLoadedError`` for a layer that is not there.
        """
        return self.send(calls).wait(timeout_s)

    def send(self, calls: Sequence[Call]) -> Batch:
        """Start the calls and return at once; several services can so be set off together."""
        self.require(*(call.layer for call in calls))
        numbers = [next(self._numbers) for _ in calls]
        outcomes: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._waiting |= dict.fromkeys(numbers, outcomes)
        self._send(
            {
                "calls": [
                    {"id": number, "layer": c.layer, "function": c.function, "args": c.args, "kwargs": dict(c.kwargs)}
                    for number, c in zip(numbers, calls, strict=True)
                ]
            }
        )
        return Batch(self, calls, numbers, outcomes)

    def require(self, *layers: str) -> None:
        """Raise ``ServiceNotLoadedError`` unless these layers are loaded."""
        for layer in layers:
            if layer not in self.loaded:
                why = self.missing.get(layer, "there is no such layer")
                what = f"The layer {layer!r} of {self.directory} is not there: {why}"
                raise ServiceNotLoadedError(f"{what}\n{self._said()}")

    def hung(self, calls: Sequence[Call]) -> ServiceHungError:
        """Return the error for calls without an outcome, with the stack of each of the service's threads."""
        names = ", ".join(f"{call.layer}.{call.function}()" for call in calls)
        return ServiceHungError(f"{self.directory} has not answered {names} in time.\n{self.stacks()}")

    def stacks(self) -> str:
        """Let the service write the stack of each of its threads; return its last lines."""
        with contextlib.suppress(ServiceError, queue.Empty):
            self._send({"stacks": True})
            self._replies.get(timeout=STACKS_TIMEOUT_S)
        return self._said(80)

    def died(self) -> ServiceError:
        """Return the error for a service whose process ended."""
        with contextlib.suppress(ProcessEndedError):
            self.process.wait_until(self.process.exit_code, timeout_s=2, doing="ending")
        code = self.process.exit_code()
        return ServiceError(f"The process of {self.directory} ended by itself (exit code {code}).\n{self._said()}")

    def _said(self, lines: int = 20) -> str:
        said = self.process.last_lines(lines)
        return (
            "Its last lines:\n" + "\n".join(f"  | {line}" for line in said.splitlines())
            if said
            else "It wrote nothing."
        )

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self.died() from error

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "event" in message:
                    self._record(message)
                elif "outcome" in message:
                    number = message["outcome"]
                    self._waiting.pop(number).put((number, _outcome(message)))
                else:
                    self._replies.put(message)
        self._replies.put({"ended": True})
        for outcomes in set(self._waiting.values()):
            outcomes.put((-1, Outcome()))

    def _record(self, message: dict[str, Any]) -> None:
        if (recorder := self._recorder) is None:
            return
        kind, at_ns = message.pop("event"), message.pop("at_ns")
        if "arguments" in message:
            message["arguments"] = describe(message["arguments"])
        if "value" in message:
            message["value"] = describe(message["value"])
        if "error" in message:
            message["error"] = {key: message["error"][key] for key in ("type", "code")}  # the text may quote rows
        recorder.record(kind, "backend", at_ns=at_ns, **message)

    def _wait_loaded(self) -> None:
        try:
            reply = self._replies.get(timeout=LOAD_TIMEOUT_S)
        except queue.Empty:
            raise ServiceNotLoadedError(
                f"{self.directory} was not imported after {LOAD_TIMEOUT_S:g} s.\n{self._said()}"
            ) from None
        if "ended" in reply:
            raise ServiceNotLoadedError(f"The process of {self.directory} ended at import.\n{self._said()}")
        self.loaded, self.missing = frozenset(reply["loaded"]), reply["missing"]
        self.url, self.python = reply["url"], reply["python"]
        if not self.loaded:
            reasons = "\n".join(f"  {layer}: {why}" for layer, why in self.missing.items())
            raise ServiceNotLoadedError(f"No layer of {self.directory} can be loaded:\n{reasons}\n{self._said()}")


@dataclass(slots=True)
class Batch:
    """Calls under way in one service."""

    service: Service
    calls: Sequence[Call]
    numbers: Sequence[int]
    outcomes: queue.SimpleQueue[tuple[int, Outcome]]

    def wait(self, timeout_s: float = CALL_TIMEOUT_S) -> list[Outcome]:
        """Return the outcomes in the order of the calls; see ``Service.call_together`` for what it raises."""
        found: dict[int, Outcome] = {}
        while len(found) < len(self.numbers):
            try:
                number, outcome = self.outcomes.get(timeout=timeout_s)
            except queue.Empty:
                late = [call for number, call in zip(self.numbers, self.calls, strict=True) if number not in found]
                raise self.service.hung(late) from None
            if number < 0:
                raise self.service.died()
            found[number] = outcome
        return [found[number] for number in self.numbers]


def _outcome(message: dict[str, Any]) -> Outcome:
    if error := message.get("error"):
        return Outcome(error_type=error["type"], message=error["message"], code=error["code"])
    return Outcome(value=message.get("value"))


def environment(url: str, keys: Keys) -> dict[str, str]:
    """Return what a service finds in its environment: ours, and where its data API is."""
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost")))
    return os.environ | {
        "NO_PROXY": no_proxy,  # a proxy for the internet must not come between the service and its tap
        "no_proxy": no_proxy,
        "SUPABASE_URL": url,
        "SUPABASE_KEY": keys.service_role,
        "SUPABASE_ANON_KEY": keys.anon,
        "SUPABASE_SERVICE_ROLE_KEY": keys.service_role,
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def start(directory: Path, env: Mapping[str, str], *, python: str = "") -> Iterator[Service]:
    """Yield the service in ``directory``, running under ``python``, by default ours, until the block ends.

    Raises ``ServiceNotLoadedError`` when the directory or interpreter is not there, or no layer can be imported.
    """
    directory = directory.resolve()
    if not (directory / "database_service.py").is_file():
        raise ServiceNotLoadedError(f"{directory} is no service directory: database_service.py is not in it.")
    with folders.run_folder("service") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.path / CHANNEL_FILE))
        listener.listen(1)
        listener.settimeout(0.01)
        command: list[str | Path] = [python or sys.executable, runner.__file__, folder.path / CHANNEL_FILE, directory]
        with guarded(
            command,
            name=f"the service {directory.name}",
            folder=folder,
            env=env,
            cwd=directory,
            stop_signal=signal.SIGKILL,
            secrets=[env.get(name, "") for name in KEY_VARIABLES],
        ) as process:
            connection = _accept(listener, process, directory)
            with connection:
                service = Service(directory, process, connection)
                service._wait_loaded()  # noqa: SLF001  half of the constructor
                yield service


def _accept(listener: socket.socket, process: GuardedProcess, directory: Path) -> socket.socket:
    def accepted() -> socket.socket | None:
        try:
            return listener.accept()[0]
        except TimeoutError:
            return None

    try:
        connection = process.wait_until(accepted, timeout_s=LOAD_TIMEOUT_S, doing="starting its interpreter")
    except ProcessEndedError as error:
        raise ServiceNotLoadedError(f"{directory} could not be started: {error}") from error
    connection.settimeout(None)
    return connection
