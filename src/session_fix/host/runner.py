"""The half that runs inside the service's interpreter: imports its three modules, serves its API, calls its layers.

Standard library only, Python 3.9 and newer. The API is served by the uvicorn of the service's own environment, imported
when the API layer is. Speaks JSON lines over the Unix socket named first on its command line; the service directory is
the second argument. What the service prints goes where standard output and error go.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import importlib
import inspect
import json
import os
import socket
import sys
import threading
import time
import traceback

LAYERS = {
    "database": ("database_service", "db_service", ("create_session", "log_interaction")),
    "logger": ("ai_session_logger", "ai_logger", ("log_interaction",)),
    "api": ("api_server", "app", ()),
}
WATCHED = "__session_fix__"
EXTRA_FUNCTIONS = {"logger": ("log_ai_interaction",)}


class Channel:
    """Sends and receives JSON lines; sending is safe from several threads."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message):
        """Send one message; what JSON cannot hold is sent as its repr."""
        try:
            data = json.dumps(message, default=repr).encode() + b"\n"
        except (TypeError, ValueError, RecursionError):  # a key that is no text, or a value that holds itself
            shown = {key: item if isinstance(item, (str, int)) else repr(item) for key, item in message.items()}
            data = json.dumps(shown).encode() + b"\n"
        with self._lock:
            self._socket.sendall(data)

    def __iter__(self):
        return (json.loads(line) for line in self._lines)


class Steps:
    """Reports each call of the service's own functions: entered with which arguments, returned or raised what."""

    def __init__(self, channel):
        self._channel = channel
        self._depth = threading.local()

    def watch(self, owner, name):
        """Replace ``owner.name`` by a function that reports and otherwise does the same."""
        function = getattr(owner, name, None)
        if not callable(function) or getattr(function, WATCHED, False):
            return
        signature = inspect.signature(function)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched(*args, **kwargs):
                with self._step(name, signature, args, kwargs) as step:
                    step["value"] = await function(*args, **kwargs)
                return step["value"]

        else:

            @functools.wraps(function)
            def watched(*args, **kwargs):
                with self._step(name, signature, args, kwargs) as step:
                    step["value"] = function(*args, **kwargs)
                return step["value"]

        watched.__dict__[WATCHED] = True
        with contextlib.suppress(AttributeError):  # an object with __slots__: its steps stay unseen, its calls do not
            setattr(owner, name, watched)

    @contextlib.contextmanager
    def _step(self, name, signature, args, kwargs):
        depth = getattr(self._depth, "value", 0)
        try:
            arguments = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:  # the call is about to fail for it
            arguments = {"*": list(args), **kwargs}
        self._report("enter", name, depth, arguments=arguments)
        self._depth.value = depth + 1
        step: dict[str, object] = {}
        try:
            yield step
        except BaseException as error:
            self._report("raise", name, depth, error=describe_error(error))
            raise
        else:
            self._report("return", name, depth, value=step["value"])
        finally:
            self._depth.value = depth

    def _report(self, kind, function, depth, **fields):
        thread, at_ns = threading.get_ident(), time.monotonic_ns()
        self._channel.send(
            {"event": kind, "function": function, "depth": depth, "thread": thread, "at_ns": at_ns, **fields}
        )


def describe_error(error):
    """Return an exception's type, message and code; the code is an SQLSTATE where the data API gave one."""
    code = getattr(error, "code", None)
    return {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "code": code if isinstance(code, str) else None,
    }


def load(layer, steps):
    """Import a layer and return what it offers; whatever the import raises comes out."""
    module_name, attribute, functions = LAYERS[layer]
    module = importlib.import_module(module_name)
    offered = getattr(module, attribute)
    for function in functions:
        if not callable(getattr(offered, function, None)):
            raise AttributeError(f"{module_name}.{attribute} has no function {function}()")  # noqa: TRY004  no attribute
        steps.watch(offered, function)
    for function in EXTRA_FUNCTIONS.get(layer, ()):
        steps.watch(module, function)
    return offered


def serve(app):
    """Serve an ASGI application on a random port of loopback; return its URL once it answers."""
    uvicorn = importlib.import_module("uvicorn")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the application's start-up failed")
        time.sleep(0.005)
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def load_all(channel):
    """Load every layer, report which loaded and why others did not, and return the loaded ones."""
    steps, loaded, missing, url = Steps(channel), {}, {}, None
    for layer in LAYERS:
        try:
            loaded[layer] = load(layer, steps)
            if layer == "api":
                url = serve(loaded[layer])
        except BaseException as error:  # noqa: BLE001  a service may raise anything at import, SystemExit too
            traceback.print_exc()
            loaded.pop(layer, None)
            missing[layer] = f"{type(error).__name__}: {error}"[:500]
    channel.send({"loaded": sorted(loaded), "missing": missing, "url": url, "python": sys.version.split()[0]})
    return loaded


def perform(channel, loaded, call, released):
    """Run one call in this thread, once all of its batch are ready to start, and send its outcome."""
    try:
        function = getattr(loaded[call["layer"]], call["function"])
        released.wait()
        value = function(*call["args"], **call["kwargs"])
        if inspect.isawaitable(value):
            value = asyncio.run(_result(value))
        outcome = {"value": value}
    except BaseException as error:  # noqa: BLE001  whatever the service raises is its outcome
        outcome = {"error": describe_error(error)}
    channel.send({"outcome": call["id"], **outcome})


async def _result(awaitable):
    return await awaitable


def dump_if_hanging():
    """Write every thread's stack while the import still runs, shortly before the harness gives up."""
    faulthandler.dump_traceback_later(float(os.environ.get("SESSION_FIX_STACKS_AFTER_S", "55")), exit=False)


def main():
    """Load the service, then do what the channel asks until it closes."""
    path, directory = sys.argv[1:3]
    sys.path[0] = directory  # where a script would have found its own directory: ours must not shadow the service's
    channel = Channel(path)
    dump_if_hanging()
    loaded = load_all(channel)
    faulthandler.cancel_dump_traceback_later()
    for message in channel:
        if "stacks" in message:
            faulthandler.dump_traceback(all_threads=True)
            channel.send({"stacks": True})
            continue
        batch = message["calls"]
        released = threading.Barrier(len(batch))
        for call in batch:
            threading.Thread(target=perform, args=(channel, loaded, call, released), daemon=True).start()
    sys.stdout.flush()
    os._exit(0)  # threads of the service may still run


if __name__ == "__main__":
    main()
