"""The record of a run: what enters it, in which order, and what it may say of a value."""

import json
import sys
import threading
import time
import uuid

import pytest

from session_fix.events import KINDS, Recorder, describe

SESSION = "0B8F3F60-55D3-4C2C-9E1B-6A3F0C7D9E21"


@pytest.fixture
def record():
    """Return an empty record."""
    return Recorder()


def test_events_come_in_the_order_of_their_times(record):
    """A service reports late what happened early; a report in the order of arrival would show effects before causes."""
    now = time.monotonic_ns()
    record.record("reply", "tap", at_ns=now + 3_000_000)
    record.record("call", "tap", at_ns=now + 1_000_000)
    record.record("enter", "backend", at_ns=now + 2_000_000)
    assert [event.kind for event in record.events()] == ["call", "enter", "reply"]


def test_events_of_one_microsecond_keep_the_order_of_arrival(record):
    """A coarse clock must not turn a call and its reply around."""
    now = time.monotonic_ns()
    for kind in ("request", "call", "reply", "answer"):
        record.record(kind, "anybody", at_ns=now)
    assert [event.kind for event in record.events()] == ["request", "call", "reply", "answer"]


def test_times_are_microseconds_since_the_recorder_began(record):
    """The unit is part of the format: readers draw durations from it."""
    first = record.record("call", "tap", at_ns=time.monotonic_ns() + 5_000_000_000)
    second = record.record("reply", "tap", at_ns=time.monotonic_ns() + 5_000_000_000)
    assert 5_000_000 <= first.t_us <= second.t_us < 3_600_000_000


def test_an_event_without_a_time_happened_now(record):
    """Whoever observes something as it happens need not look at the clock."""
    events = [record.record("call", "tap") for _ in range(50)]
    assert record.events() == events


@pytest.fixture
def hasty_threads():
    """Let threads interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_events_of_many_threads_are_numbered_in_the_order_of_their_times(record):
    """Frontend, tap and services write from threads of their own; none may be lost or come between time and number."""
    together = threading.Barrier(8)

    def write(actor):
        together.wait()
        for number in range(200):
            record.record("call", actor, call=number)

    threads = [threading.Thread(target=write, args=(f"client {name}",)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = record.events()
    assert [event.seq for event in events] == list(range(1600))
    for thread in range(8):
        own = [event.fields["call"] for event in events if event.actor == f"client {thread}"]
        assert own == list(range(200))


def test_what_was_returned_does_not_grow(record):
    """A judge works on the record as it was when the flow ended."""
    record.record("call", "tap")
    seen = record.events()
    record.record("reply", "tap")
    assert len(seen) == 1


@pytest.mark.parametrize("kind", ["cal", "", "CALL", "calls"])
def test_an_unknown_kind_is_refused(record, kind):
    """A misspelt kind that passes would make a check look at nothing."""
    with pytest.raises(ValueError, match="no kind of event") as refused:
        record.record(kind, "tap")
    assert all(known in str(refused.value) for known in KINDS)
    assert record.events() == []


def test_an_event_is_one_flat_json_object(record):
    """The format of the record: one object a line, the kind's own fields beside the common ones."""
    event = record.record("call", "tap", call=1, filters={"id": "eq.1"})
    assert json.loads(json.dumps(event.as_json("run7"))) == {
        "run": "run7",
        "seq": 0,
        "t_us": event.t_us,
        "kind": "call",
        "actor": "tap",
        "call": 1,
        "filters": {"id": "eq.1"},
    }


def test_every_recorder_is_a_run_of_its_own():
    """Records of several runs can lie in one file."""
    assert Recorder().run != Recorder().run


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SESSION, SESSION.lower()),
        (f"{SESSION} ", "text(37)"),
        (f"x{SESSION}", "text(37)"),
        ("a prompt that nobody else may read", "text(34)"),
        ("", "text(0)"),
        (b"bytes nobody may read", "bytes"),
        (uuid.UUID(SESSION), "UUID"),
        (None, None),
        (True, True),
        (17, 17),
        (1.5, 1.5),
        (["a secret", "another"], "list(2)"),
        (("a secret",), "list(1)"),
        ({"id": SESSION, "prompt": "hello"}, {"id": SESSION.lower(), "prompt": "text(5)"}),
        ({"row": {"response": "hi there", "tokens_used": 3}}, {"row": {"response": "text(8)", "tokens_used": 3}}),
    ],
)
def test_ids_and_numbers_are_shown_and_texts_only_measured(value, said):
    """A record may be attached to a ticket: it holds what a diagram needs, and no text of a user."""
    described = describe(value)
    assert described == said
    assert type(described) is type(said)


class Credentials:
    """A value whose repr would give a secret away."""

    def __repr__(self):
        """Return what must not be recorded."""
        return "Credentials('canary')"


def test_other_objects_are_described_by_their_type():
    """A repr may hold anything, a password too."""
    assert describe(Credentials()) == "Credentials"
