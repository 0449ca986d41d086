"""A service directory is loaded layer by layer; what cannot be loaded is dropped with its reason, never silently."""

import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from session_fix.errors import ServiceNotLoadedError
from session_fix.host import service as host_service

ALL = {"database", "logger", "api"}
OLD = "3.9"


def old_python():
    """Return the oldest interpreter that services may run in, None where it is not installed."""
    found = sorted(Path.home().glob(f".pyenv/versions/{OLD}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{OLD}")


def test_all_three_layers_load(start, write):
    """A complete service has each, and its API answers."""
    service = start(write())
    assert (service.loaded, dict(service.missing)) == (ALL, {})
    service.require(*ALL)
    with urllib.request.urlopen(service.url, timeout=10) as answer:  # noqa: S310  its own URL
        assert answer.read() == b"hello"


@pytest.mark.parametrize(
    ("module", "text", "layer", "reason"),
    [
        ("api_server", "import no_such_package", "api", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("api_server", None, "api", "ModuleNotFoundError: No module named 'api_server'"),
        ("api_server", "application = None", "api", "AttributeError"),
        ("api_server", "raise SystemExit(3)", "api", "SystemExit: 3"),
        ("ai_session_logger", "this is no python", "logger", "SyntaxError"),
        ("ai_session_logger", "ai_logger = object()", "logger", "has no function log_interaction()"),
    ],
)
def test_a_layer_that_cannot_be_loaded_is_dropped_with_its_reason(start, write, module, text, layer, reason):
    """The rest can still be tested, and whoever needs that layer is told why it is not there."""
    service = start(write(**{module: text}))
    assert service.loaded == ALL - {layer}
    assert reason in service.missing[layer]
    with pytest.raises(ServiceNotLoadedError, match=f"The layer '{layer}' of .*svc is not there") as refused:
        service.require("database", layer)
    assert reason in str(refused.value)
    with pytest.raises(ServiceNotLoadedError, match=f"The layer '{layer}'"):
        service.call(layer, "log_interaction")


def test_nothing_that_loads_is_an_error_with_every_reason(start, write):
    """An empty set of layers would make every test of the service pass."""
    directory = write(at_import="import no_such_client\n", api_server=None)
    with pytest.raises(ServiceNotLoadedError) as refused:
        start(directory)
    said = str(refused.value)
    assert "No layer of" in said
    assert "  database: ModuleNotFoundError: No module named 'no_such_client'" in said
    assert "  logger: ModuleNotFoundError: No module named 'no_such_client'" in said
    assert "  api: ModuleNotFoundError: No module named 'api_server'" in said


@pytest.mark.parametrize("where", [".", "missing"])
def test_a_directory_without_the_database_layer_is_refused(start, tmp_path, where):
    """It is most likely the wrong directory."""
    with pytest.raises(ServiceNotLoadedError, match=r"is no service directory: database_service\.py is not in it"):
        start(tmp_path / where)


def test_an_interpreter_that_is_not_there_is_named(start, write):
    """--python is typed by hand."""
    with pytest.raises(ServiceNotLoadedError, match=r"could not be started(.|\n)*/no/such/python"):
        start(write(), python="/no/such/python")


def test_an_import_that_hangs_is_bounded(start, write, monkeypatch, tmp_path, eventually, is_running):
    """A service that waits for its real database at import would hang a CI job; its process ends as well."""
    accept = host_service._accept  # noqa: SLF001  between it and the import the clock is turned

    def accept_and_lose_patience(*arguments):
        connection = accept(*arguments)
        monkeypatch.setattr(host_service, "LOAD_TIMEOUT_S", 0.5)
        return connection

    monkeypatch.setattr(host_service, "_accept", accept_and_lose_patience)
    note = f"import os, time\nfrom pathlib import Path\nPath({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
    with pytest.raises(ServiceNotLoadedError, match=r"was not imported after 0\.5 s"):
        start(write(at_import=f"{note}time.sleep(1000)\n"))
    pid = (tmp_path / "pid").read_text()
    eventually(lambda: not is_running(pid))


@pytest.mark.parametrize(
    "last_act", ["os._exit(7)", "os.kill(os.getpid(), 9)", "os.abort()"], ids=["exits", "is killed", "aborts"]
)
def test_an_import_that_ends_the_process_is_an_error_with_its_last_lines(start, write, last_act):
    """What it printed before is all there is to go by."""
    with pytest.raises(ServiceNotLoadedError, match=r"ended at import(.|\n)*  \| about to end"):
        start(write(at_import=f"import os\nprint('about to end', flush=True)\n{last_act}\n"))


@pytest.mark.parametrize("name", ["tap", "runner", "guard", "processes", "host", "errors", "session_fix"])
def test_a_module_of_the_services_is_not_shadowed_by_ours(start, write, name):
    """It is imported as if it had been started from its own directory."""
    found = f"import {name}\nassert {name}.WHOSE == 'the service'\n"
    service = start(write(at_import=found, **{name: "WHOSE = 'the service'\n"}))
    assert service.loaded == ALL, service.missing


@pytest.mark.skipif(not old_python(), reason=f"no Python {OLD} on this machine")
def test_an_older_interpreter_without_any_package_runs_what_it_can(start, write):
    """A service keeps the interpreter it is deployed with; only the API needs that one's uvicorn."""
    service = start(write(), python=old_python())
    assert service.python.startswith(OLD)
    assert service.loaded == {"database", "logger"}
    assert "uvicorn" in service.missing["api"]
    assert service.call("logger", "log_interaction", "a", "b", session_id="c").value is True


def test_it_runs_in_the_interpreter_that_was_named(start, write):
    """The default is ours."""
    assert start(write()).python == sys.version.split()[0]
