"""The benchmarks run, leave no contender out, and give no figure for one that failed. No time is asserted."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import (
    all_orders,
    claims,
    first_failure,
    orders,
    per_test,
    report,
    runs,
    server_start,
    service,
    suite,
    tap,
)
from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import Claim, Row, percentile, row

ROOT = Path(__file__).parent.parent
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
A, B = ("x", "a", ""), ("x", "b", "")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of a tiny run of each benchmark, one after another: other tests run beside them already."""
    found = {}
    for name in BENCHMARKS:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "benchmarks", "--tiny", "--only", name, "--output", str(folder)]
        with (folder / "log").open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | NO_ENGINE, stdout=log, stderr=log, timeout=250, check=False
            )
        assert done.returncode == 0, (folder / "log").read_text()
        found[name] = json.loads((folder / "results.json").read_text()) | {"folder": folder}
    return found


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_contender_has_positive_figures_or_a_reason(results, name):
    """A contender that is silently left out makes the others look better."""
    rows = results[name]["rows"]
    assert rows
    for one in rows:
        if one["error"]:
            assert not one["contender"].startswith(("session-fix", "rollback")), one
            assert (one["n"], one["median"]) == (0, None), one
        else:
            assert 0 < one["p10"] <= one["median"] <= one["p90"] or "net" in one["setting"], one
            assert one["n"] > 0, one


def test_the_contenders_are_those_that_were_to_be_measured(results):
    """Every one of them has its row."""
    names = {name: {(one["contender"], one["setting"]) for one in found["rows"]} for name, found in results.items()}
    assert names["per_test"] == {one.key for one in per_test.CONTENDERS}
    assert names["suite"] >= {one.key for one in suite.CONTENDERS}
    assert {contender.rpartition(",")[0] for contender, _ in names["server_start"]} == {
        one.name for one in server_start.CONTENDERS
    }
    assert (service.LIMIT, "") in names["service"]
    assert {setting for _, setting in names["orders"]} == set(orders.VARIANTS)
    assert names["tap"] >= {(name, tap.NET) for name in tap.THROUGH}
    assert {name for name, _ in names["first_failure"]} == {
        first_failure.OURS,
        first_failure.STRESS,
        *first_failure.PEERS,
    }


def test_the_explorer_is_measured_at_what_it_finds(results):
    """An exploration that sees nothing would be the fastest of all."""
    rows = {(one["contender"], one["setting"]): one for one in results["first_failure"]["rows"]}
    for workload in ("create-create", "query-cleanup"):
        more = rows[first_failure.OURS, f"{workload}: documented"]["more"]
        assert (more["without a failure"], more["inconclusive"]) == (0, 0)
    holds = rows[first_failure.OURS, "create-create: fixed"]
    assert holds["more"]["without a failure"] == holds["n"]


def test_every_order_is_measured_with_its_calls(results):
    """Fewer orders, or fewer calls in each, would be no faster."""
    calls = {(one["contender"], one["setting"]): one["more"]["calls an order"] for one in results["orders"]["rows"]}
    assert calls[orders.OURS, "fixed"] == calls[orders.UNGATED, "fixed"] == 2
    assert calls[orders.OURS, "documented"] > calls[orders.UNGATED, "documented"] == 3
    more = {one["setting"]: one["more"] for one in results["all_orders"]["rows"]}
    assert {one["orders"] for one in more.values()} == {all_orders.ORDERS}
    assert more[all_orders.PRUNED]["runs"] < more[all_orders.UNPRUNED]["runs"] == all_orders.ORDERS


def test_a_missing_peer_is_said(results):
    """Whoever has not installed the peer sees where it is named."""
    found = [one for one in results["first_failure"]["rows"] if one["contender"] in first_failure.PEERS]
    if importlib.util.find_spec("frontrun") is None:
        assert {one["error"] for one in found} == {"frontrun is not installed; requirements/bench.txt has it"}


def test_a_missing_engine_is_said(results):
    """Whoever has no container engine sees why those rows are empty."""
    reasons = {one["error"] for one in results["per_test"]["rows"] if one["contender"].startswith("testcontainers")}
    assert len(reasons) == 1
    assert "no engine" in reasons.pop()


def test_the_service_rows_count_calls(results):
    """The fix sends fewer calls than the documented one: a session and its interaction, each once."""
    calls = {one["contender"]: one["more"]["calls"] for one in results["service"]["rows"]}
    assert (calls["fixed: interaction"], calls["documented: interaction"]) == (2, 4)


def test_every_claim_names_rows_that_are_measured(results):
    """A claim about a row that is called otherwise by now would never be checked."""
    rows = {(one["benchmark"], one["contender"], one["setting"]) for found in results.values() for one in found["rows"]}
    assert {key for claim in claims.CLAIMS for key in (claim.contender, claim.than) if key} <= rows


def test_the_report_is_readable(results):
    """The plot is XML, the table has every row."""
    folder = results["per_test"]["folder"]
    ET.parse(folder / "results.svg")
    text = (folder / "results.md").read_text()
    assert all(f"| {one.name} | {one.setting} |" in text for one in per_test.CONTENDERS)


def test_a_failed_run_is_an_error_and_no_figure():
    """Tests that fail quickly would be the fastest of all."""
    broken = runs.Contender("broken", fixture="no_such_fixture")
    found = runs.interleave({broken.key: lambda: runs.run_pytest(broken, tests=1)}, 2)
    (one,) = runs.rows("per_test", found, list)
    assert one.median is None
    assert "fixture 'database' not found" in one.error


def test_a_failure_in_a_later_round_takes_the_figures_back():
    """Half of the rounds is not the same measurement."""
    times = iter([1.0])

    def measure():
        if (found := next(times, None)) is None:
            raise runs.FailedError("it broke")
        return found

    (one,) = runs.rows("x", runs.interleave({("a", ""): measure}, 3), list)
    assert (one.median, one.error) == (None, "it broke")


def test_an_interrupted_run_ends_its_process(tmp_path, is_running):
    """Ctrl-C must not leave a peer's server behind."""
    note = tmp_path / "pid"
    sleeper = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    script = (
        "import sys, pathlib, signal, threading, os, time\n"
        "from benchmarks import runs\n"
        f"note = pathlib.Path({str(note)!r})\n"
        "def interrupt():\n"
        "    while not (note.exists() and note.read_text()): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        f"runs.performed([sys.executable, '-c', {sleeper!r}], pathlib.Path(os.devnull))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert not is_running(int(note.read_text()))
    assert time.monotonic() - began < runs.GRACE_S, "the process heard it and was not killed"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2.5), (0.9, 3.7), (1.0, 4)])
def test_percentiles(share, value):
    """Between two values it lies by its distance to them."""
    assert percentile([4, 1, 3, 2], share) == pytest.approx(value)


@pytest.mark.parametrize(
    ("wanted", "than", "verdict"),
    [(">= 2", B, "met"), (">= 3", B, "not met"), ("<= 1", None, "met"), ("<= 0.5", None, "not met")],
)
def test_claims_are_met_or_not(wanted, than, verdict):
    """A claim that cannot fail says nothing."""
    assert Claim("", wanted, A, than).verdict([row("x", "a", "", [1.0]), row("x", "b", "", [2.0])]) == verdict


def test_a_claim_without_figures_is_neither_met_nor_broken():
    """What was not measured is said to be so."""
    rows = [row("x", "a", "", [1.0]), Row("x", "b", error="no engine")]
    assert Claim("", ">= 2", A, B).verdict(rows) == "not measured"


def test_the_plot_says_what_was_not_measured():
    """A missing contender keeps its line."""
    drawn = report.svg([row("per_test", "a", "", [1.0, 20.0]), Row("per_test", "b", error="no <engine>")])
    assert "not measured: no &lt;engine&gt;" in drawn
