"""The stack as a whole: nobody outside this machine can reach any part of it, and a missing part is explained."""

import os
from contextlib import ExitStack, contextmanager

import pytest

from session_fix import host, stack
from session_fix.errors import NoRestError, NoServerError, UsageError
from session_fix.host.service import environment
from session_fix.progress import SILENT
from session_fix.rest import lite, node
from session_fix.servers import docker, embedded
from session_fix.settings import Settings
from session_fix.subjects import named
from session_fix.tap import Tap


@pytest.fixture
def keys():
    """Return keys for one run."""
    return lite.new_keys()


@pytest.mark.needs_proc
def test_every_part_listens_on_loopback_or_not_at_all(keys, descendants, network_sockets):
    """Server, data API, tap and service hold prompts and keys; a test run must not publish them in a café."""
    with ExitStack() as running, stack.start(Settings(), keys, progress=SILENT) as started:
        assert started.rest.kind == "lite"
        tap = running.enter_context(Tap())
        running.enter_context(host.start(named("fixed").directory, environment(tap.url, keys)))
        found = network_sockets(descendants(os.getpid()))
    assert len(found) >= 3, "tap, data API and service listen"
    assert set(found) == {("tcp", "127.0.0.1")}


def test_it_says_what_runs(session_fix_stack):
    """Every report names the stack and its versions."""
    described = session_fix_stack.describe()
    server = session_fix_stack.databases.server
    assert described["postgres"] == f"{server.kind} {server.version}"
    assert described["rest"].startswith(f"lite (@supabase/lite {node.lite_version()}, Node.js ")


def test_its_repr_shows_no_key(session_fix_stack):
    """Test reports print the fixtures of failed tests."""
    shown = repr(session_fix_stack)
    assert session_fix_stack.keys.service_role not in shown
    assert session_fix_stack.keys.anon not in shown


def test_an_error_without_any_server_names_all_three_ways(monkeypatch, keys):
    """Whoever reads it has to know why each failed, and can choose which to mend."""

    def no_binaries(_):
        raise NoServerError("there are no binaries for this platform")

    monkeypatch.setattr(embedded, "binaries", no_binaries)
    monkeypatch.setattr(docker, "missing", lambda: "no Docker engine answers")
    with pytest.raises(NoServerError) as refused, stack.start(Settings(), keys, progress=SILENT):
        pass
    said = str(refused.value)
    assert said.startswith("there are no binaries for this platform")
    assert "  --postgres docker: no Docker engine answers" in said
    assert "  --postgres external: SESSION_FIX_DSN is not set" in said


def test_an_error_says_which_other_way_would_work(monkeypatch, keys):
    """The way out is worth more than the reason."""
    monkeypatch.setattr(docker, "missing", lambda: "no Docker engine answers")
    settings = Settings(postgres="docker", dsn="postgresql://localhost")
    with pytest.raises(NoServerError) as refused, stack.start(settings, keys, progress=SILENT):
        pass
    assert "  --postgres embedded: would be possible here" in str(refused.value)
    assert "  --postgres external: would be possible here" in str(refused.value)


def test_a_data_api_that_fails_takes_the_server_down_again(monkeypatch, keys, is_running):
    """What was started before the failure has to end with it."""

    def no_node():
        raise NoRestError("no Node.js")

    started = []
    start = embedded.start

    @contextmanager
    def noted(**options):
        with start(**options) as (server, process):
            started.append(process.pid)
            yield server, process

    monkeypatch.setattr(embedded, "start", noted)
    monkeypatch.setattr(node, "find", no_node)
    with pytest.raises(NoRestError, match=r"no Node\.js"), stack.start(Settings(), keys, progress=SILENT) as running:
        assert running.rest
    assert len(started) == 1
    assert not is_running(started[0])


@pytest.mark.parametrize("dsn", ["postgresql://db.example.com/postgres", "dbname=postgres"])
def test_a_server_elsewhere_is_refused(keys, dsn):
    """Databases are created and dropped there: that has to be asked for."""
    settings = Settings(postgres="external", dsn=dsn)
    with pytest.raises(UsageError), stack.start(settings, keys, progress=SILENT):
        pass
