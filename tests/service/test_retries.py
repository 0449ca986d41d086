"""The retries of the fix that ships: only what can pass, at most three times, within one deadline."""

import importlib.util
import sys

import httpx
import pytest
from postgrest.exceptions import APIError

from session_fix import folders

ROW = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"


@pytest.fixture(scope="module")
def retries():
    """Return the module, loaded by its path: a service directory is no package."""
    path = folders.bundled("service") / "fixed" / "retries.py"
    spec = importlib.util.spec_from_file_location("retries_of_the_fixed_service", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert spec.name not in sys.modules
    return module


def refusal(code, message="x"):
    """Return the error of the client library for this code."""
    return APIError({"code": code, "message": message, "details": None, "hint": None})


class Write:
    """A write that ends in these ways, one after the other; None is success."""

    def __init__(self, *endings):
        self.endings = list(endings)
        self.tries = 0

    def __call__(self):
        """Try it once."""
        ending = self.endings[self.tries]
        self.tries += 1
        if ending is not None:
            raise ending


@pytest.mark.parametrize(
    "code",
    [
        *("08000", "08006", "40001", "40P01", "53300", "57014", "57P01", "57P03", "58030", "55P03"),
        *("PGRST000", "PGRST001", "PGRST002", "PGRST003", "429", "502", "503", "504", "520", 503),
    ],
)
def test_what_passes_by_itself_is_transient(retries, code):
    """Connections, deadlocks, overload and restarts end; the same write then succeeds."""
    assert retries.is_transient(refusal(code))


@pytest.mark.parametrize(
    "code",
    [
        *("23503", "23505", "23502", "22P02", "22001", "42501", "42P01", "42703", "55006", "25006"),
        *("PGRST116", "PGRST204", "PGRST301", "400", "401", "403", "404", "409", "500", 400, "", None),
        *("08", "40", "57", "0800", "400010", "53-code", "x08006"),
    ],
)
def test_what_stays_wrong_is_not_transient(retries, code):
    """Trying a broken key or a missing right again only delays the error."""
    assert not retries.is_transient(refusal(code))


@pytest.mark.parametrize(
    "message", ["connection timeout, please retry", "deadlock detected 40001", "503 Service Unavailable"]
)
def test_words_decide_nothing(retries, message):
    """Messages are translated and quote users' data: a prompt about timeouts is not one."""
    assert not retries.is_transient(refusal("23503", message))
    assert not retries.is_transient(ValueError(message))
    assert retries.is_transient(refusal("40001", "23503 violates foreign key constraint"))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ReadTimeout("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.InvalidURL("x"), False),
        (httpx.TooManyRedirects("x"), False),
        (KeyError("x"), False),
        (TimeoutError("x"), False),
    ],
)
def test_only_errors_of_the_transport_are_in_doubt(retries, error, passes):
    """A lost answer may stand for a stored row; a mistake of ours stands for itself."""
    assert retries.is_transient(error) is passes


def test_an_answer_without_the_row_is_tried_again(retries):
    """A login page with status 200 comes from a gateway that is about to recover."""
    write = Write(retries.NotStoredError("x"), None)
    retries.with_retries(write)
    assert write.tries == 2


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_write_is_tried_until_it_succeeds(retries, failures):
    """And not once more: each try is a call that the user waits for."""
    write = Write(*[httpx.ConnectError("x")] * failures, None)
    retries.with_retries(write)
    assert write.tries == failures + 1


def test_the_third_failure_is_the_last_one(retries):
    """Every client that tries for ever makes an overload permanent; the error that is raised is the newest."""
    errors = [refusal("40001"), httpx.ReadTimeout("x"), refusal("57P03")]
    write = Write(*errors, None)
    with pytest.raises(APIError) as raised:
        retries.with_retries(write)
    assert (write.tries, raised.value) == (3, errors[2])


@pytest.mark.parametrize("before", [0, 1])
def test_a_permanent_error_is_raised_at_once(retries, before):
    """Whatever was tried before."""
    permanent = refusal("23503")
    write = Write(*[httpx.ConnectError("x")] * before, permanent, None)
    with pytest.raises(APIError) as raised:
        retries.with_retries(write)
    assert (write.tries, raised.value) == (before + 1, permanent)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_is_not_tried_again(retries, ending):
    """Whoever ends the process means it."""
    write = Write(ending(), None)
    with pytest.raises(ending):
        retries.with_retries(write)
    assert write.tries == 1


@pytest.mark.parametrize(("deadline_s", "tries"), [(0.0, 1), (3600.0, 3)])
def test_no_try_begins_after_the_deadline(retries, monkeypatch, deadline_s, tries):
    """One deadline for all tries: the frontend waits for the sum of them."""
    monkeypatch.setattr(retries, "DEADLINE_S", deadline_s)
    write = Write(*[httpx.ConnectError("x")] * 3)
    with pytest.raises(httpx.ConnectError):
        retries.with_retries(write)
    assert write.tries == tries


def test_the_deadline_is_one_for_all_tries(retries, monkeypatch):
    """Three tries with a deadline each would take three times as long."""
    now = [100.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])

    class SlowWrite(Write):
        def __call__(self):
            now[0] += retries.DEADLINE_S * 0.6
            super().__call__()

    write = SlowWrite(*[httpx.ReadTimeout("x")] * 3)
    with pytest.raises(httpx.ReadTimeout):
        retries.with_retries(write)
    assert write.tries == 2


def test_the_row_that_was_sent_is_accepted(retries):
    """The one answer that acknowledges a write."""
    assert retries.expect_row([{"id": ROW, "user_id": None}], ROW) is None


@pytest.mark.parametrize(
    "answer",
    [
        *([], None, "", "<html>Sign in</html>", {}, {"id": ROW}, [{}], [None], ["id"], [ROW], [[ROW]]),
        *([{"id": None}], [{"id": ROW.upper()}], [{"id": "another"}], [{"id": "another"}, {"id": ROW}]),
    ],
)
def test_any_other_answer_acknowledges_nothing(retries, answer):
    """An interaction that was not stored must not be reported as stored."""
    with pytest.raises(retries.NotStoredError):
        retries.expect_row(answer, ROW)
