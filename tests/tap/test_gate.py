"""The gate: nobody goes on before somebody decides, each decision is about one call, and the first one counts."""

import gc
import queue
import threading
from concurrent.futures import Future

import pytest

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap.gate import Gate, Held
from session_fix.tap.messages import Request

TIMEOUT_S = 10


def held():
    """Return a call that nobody has decided about."""
    return Held(Request("GET", "/rest/v1/x", (), b""))


@pytest.fixture
def arrivals():
    """Return where a call is to be found that is held."""
    return queue.SimpleQueue()


@pytest.fixture
def gate(arrivals):
    """Return a gate."""
    return Gate(arrivals.put)


def start(function, *arguments):
    """Run a function in a thread that nobody has to wait for; return what becomes of it."""
    result = Future()

    def work():
        try:
            result.set_result(function(*arguments))
        except OSError as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result


@pytest.fixture
def hold(gate, arrivals):
    """Yield a function that returns a call that is held, and what becomes of it."""

    def begin():
        going_on = start(gate.hold, held())
        return arrivals.get(timeout=TIMEOUT_S), going_on

    return begin


def decided(*decisions):
    """Hold a call about which all of this is decided before it begins to wait; return why it may not go on, if so."""
    gate = Gate(lambda call: [decide(call) for decide in decisions])
    return start(gate.hold, held()).exception(TIMEOUT_S)


def test_a_released_call_goes_on(hold):
    """Whoever waits at the gate is let through from another thread."""
    call, going_on = hold()
    call.release()
    going_on.result(TIMEOUT_S)


def test_a_dropped_call_does_not_go_on(hold):
    """A call of a process that was killed before it was sent must not reach the data API after all."""
    call, going_on = hold()
    call.drop()
    with pytest.raises(ConnectionAbortedError, match="dropped"):
        going_on.result(TIMEOUT_S)


def test_a_decision_is_about_one_call(hold):
    """The order of calls is what is explored: one that goes on takes nobody along."""
    (first, first_going_on), (second, second_going_on) = hold(), hold()
    second.release()
    second_going_on.result(TIMEOUT_S)
    first.drop()
    assert isinstance(first_going_on.exception(TIMEOUT_S), ConnectionAbortedError)


def test_a_call_may_be_decided_about_before_it_waits():
    """Whoever is told of a call may decide at once, in the call's own thread."""
    assert decided(Held.release) is None
    assert isinstance(decided(Held.drop), ConnectionAbortedError)


def test_a_drop_after_a_release_comes_too_late():
    """What was sent cannot be taken back; its answer must not be lost for that."""
    assert decided(Held.release, Held.drop) is None


def test_a_release_after_a_drop_comes_too_late():
    """Whoever lets go of everything in the end must not send what was dropped."""
    assert isinstance(decided(Held.drop, Held.release), ConnectionAbortedError)


def test_opening_lets_go_of_all_who_are_held(gate, hold):
    """When a run has failed, clients that wait for ever would keep it from ending."""
    all_going_on = [hold()[1] for _ in range(3)]
    gate.open()
    assert [going_on.result(TIMEOUT_S) for going_on in all_going_on] == [None] * 3


def test_an_open_gate_tells_nobody(gate, arrivals):
    """After a run nobody is left who would decide."""
    gate.open()
    start(gate.hold, held()).result(TIMEOUT_S)
    assert arrivals.empty()


def test_opening_does_not_release_what_was_dropped(gate, hold):
    """A run ends right after a crash, too."""
    call, going_on = hold()
    call.drop()
    gate.open()
    assert isinstance(going_on.exception(TIMEOUT_S), ConnectionAbortedError)


def test_a_call_has_ended_when_it_says_so_and_for_all_who_ask():
    """A run goes on when the last call of a killed process has ended, and its database is handed on when all have."""
    call = held()
    assert not call.has_ended(timeout_s=0)
    call.end()
    assert [call.has_ended(timeout_s=0) for _ in range(2)] == [True, True]


@pytest.fixture
def gated(tap, gate, start_upstream, connect, arrivals):
    """Yield a function that makes a call through a tap with the gate: its server, record and the call in both forms."""

    def begin(*scripts):
        upstream, recorder = start_upstream(*scripts), Recorder()
        tap.point_at(Endpoint(upstream.url), recorder, gate)
        answer = start(connect().call)
        return upstream, recorder, arrivals.get(timeout=TIMEOUT_S), answer

    return begin


def test_a_call_is_sent_and_recorded_when_it_is_released(gated):
    """Before that it has not happened: a schedule tells of calls in the order in which they were sent."""
    upstream, recorder, call, answer = gated()
    assert (upstream.requests, recorder.events(), call.has_ended(timeout_s=0)) == ([], [], False)
    call.release()
    assert answer.result(TIMEOUT_S).status == 200
    assert call.has_ended(timeout_s=TIMEOUT_S)


def test_a_call_has_ended_once_its_reply_is_recorded(gated):
    """Whoever waits for its end reads the record next, although nobody may be left who gets the answer."""
    _, recorder, call, _ = gated()
    call.release()
    assert call.has_ended(timeout_s=TIMEOUT_S)
    assert [event.kind for event in recorder.events()] == ["call", "reply"]


def test_a_call_that_has_ended_is_forgotten(gated):
    """It holds a whole request, and a stack that stays up for days sees many."""
    _, _, call, answer = gated()
    assert sum(isinstance(one, set) for one in gc.get_referrers(call)) == 2, "the gate's and the tap's"
    call.release()
    answer.result(TIMEOUT_S)
    assert not any(isinstance(one, set) for one in gc.get_referrers(call))


def test_a_dropped_call_is_hung_up_on_and_leaves_no_trace(gated):
    """To its client it looks like a connection that was lost; the database has seen nothing."""
    upstream, recorder, call, answer = gated()
    call.drop()
    assert isinstance(answer.exception(TIMEOUT_S), ConnectionError)
    assert call.has_ended(timeout_s=TIMEOUT_S)
    assert (upstream.requests, recorder.events()) == ([], [])


def test_letting_go_waits_for_a_call_that_is_held(tap, connect, gated):
    """A database is handed on when no call can reach it any more; what arrives in between is refused."""
    _, recorder, call, answer = gated()
    assert not tap.let_go(timeout_s=0)
    assert connect().call().status == 503
    call.release()
    assert tap.let_go(timeout_s=TIMEOUT_S)
    assert [event.kind for event in recorder.events()] == ["call", "reply"]
    assert answer.result(TIMEOUT_S).status == 200
