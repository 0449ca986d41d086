"""Calls into a running service: outcomes, several at once, and the steps inside it; no call waits for ever."""

import json

import pytest

from session_fix.errors import ServiceError, ServiceHungError
from session_fix.events import Recorder
from session_fix.host import Call

PROMPT = "the prompt of a customer"
TOGETHER = """
import threading
meet = threading.Barrier(3)
"""
CREATE = Call("database", "create_session")


def test_a_call_returns_what_the_function_returned(start, write):
    """Positional and named arguments arrive as they were given."""
    service = start(write(create="return [session_id, user_id]"))
    assert service.call("database", "create_session", "a", user_id="b").value == ["a", "b"]


def test_what_a_function_raises_is_its_outcome(start, write):
    """The SQLSTATE is in the error's code, where the client library of Supabase puts it."""
    error = "error = ValueError('no such session'); error.code = '23503'; raise error"
    outcome = start(write(create=error)).call("database", "create_session")
    assert (outcome.error_type, outcome.message, outcome.code) == ("ValueError", "no such session", "23503")
    assert outcome.value is None


@pytest.mark.parametrize("error", ["raise SystemExit(1)", "raise KeyboardInterrupt", "raise BaseException('x')"])
def test_a_function_that_tries_to_end_the_process_fails_alone(start, write, error):
    """A script's habit of calling sys.exit() must not take the service along."""
    service = start(write(create=error, log="return 'still here'"))
    assert service.call("database", "create_session").error_type in error
    assert service.call("database", "log_interaction", "a", "b", "c").value == "still here"


def test_a_function_that_is_not_there_is_an_outcome(start, write):
    """A misspelt name must not wait for its deadline."""
    assert start(write()).call("database", "delete_session").error_type == "AttributeError"


def test_several_calls_run_at_the_same_time(start, write):
    """They meet at a barrier inside the service, which calls made one after the other never pass."""
    service = start(write(at_import=TOGETHER, create="return meet.wait(20) is not None"))
    outcomes = service.call_together([CREATE] * 3)
    assert [outcome.value for outcome in outcomes] == [True] * 3, outcomes


def test_outcomes_come_in_the_order_of_the_calls(start, write):
    """The first to finish need not be the first that was asked."""
    wait = "passed[session_id].wait(20) if session_id in passed else None; passed[user_id].set() if user_id else None"
    at_import = "import threading\npassed = {name: threading.Event() for name in 'ab'}\n"
    service = start(write(at_import=at_import, create=f"{wait}; return session_id"))
    calls = [Call(*("database", "create_session"), args) for args in (("a", None), ("b", "a"), ("c", "b"))]
    assert [outcome.value for outcome in service.call_together(calls)] == ["a", "b", "c"]


def test_an_async_function_is_awaited(start, write):
    """Half of all FastAPI services are written that way."""
    database = """
import asyncio

class Service:
    async def create_session(self, session_id=None, user_id=None):
        await asyncio.sleep(0)
        return session_id

    async def log_interaction(self, session_id, prompt, response, model_used="none", tokens_used=None):
        raise KeyError("no")

db_service = Service()
"""
    service, recorder = start(write(database_service=database, ai_session_logger=None)), Recorder()
    service.record_to(recorder)
    assert service.call("database", "create_session", "a").value == "a"
    assert service.call("database", "log_interaction", "a", "b", "c").error_type == "KeyError"
    assert [event.kind for event in recorder.events()] == ["enter", "return", "enter", "raise"]


@pytest.mark.parametrize(
    "value",
    ["object()", "{1, 2}", "b'bytes'", "{(1, 2): 3}", "(lambda a: a.append(a) or a)([])", "float('nan')", "'\\ud800'"],
)
def test_a_value_that_json_cannot_hold_still_comes_to_an_outcome(start, write, value):
    """The harness must neither hang nor change what the service does because of a strange value."""
    outcome = start(write(create=f"return {value}")).call_together([CREATE], timeout_s=10)[0]
    assert outcome.error_type is None, outcome.message
    assert outcome.value is not None


def test_a_call_that_hangs_is_an_error_with_its_stack(start, write):
    """The deadline alone says nothing; the line at which it hangs does."""
    at_import = "import threading\ndef waits_for_a_lock_that_nobody_frees():\n    threading.Event().wait()\n"
    service = start(write(at_import=at_import, create="waits_for_a_lock_that_nobody_frees()"))
    with pytest.raises(ServiceHungError, match=r"has not answered database\.create_session\(\) in time") as hung:
        service.call_together([CREATE], timeout_s=0.3)
    assert "in waits_for_a_lock_that_nobody_frees" in str(hung.value)
    assert service.call("database", "log_interaction", "a", "b", "c").value is True, "other calls go on"


def test_a_service_that_dies_in_a_call_is_an_error_with_its_last_lines(start, write):
    """A crash of the interpreter is nobody's exception."""
    service = start(write(create="import os; print('out of memory', flush=True); os._exit(9)"))
    with pytest.raises(ServiceError, match=r"ended by itself \(exit code 9\)(.|\n)*  \| out of memory"):
        service.call("database", "create_session")


def test_a_call_of_a_service_that_has_died_is_an_error_of_ours(start, write):
    """The next test meets it, and has to be told the same."""
    service = start(write(create="import os; os._exit(9)"))
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"ended by itself \(exit code 9\)"):
            service.call("database", "create_session")


def test_what_a_service_prints_is_kept(start, write, capfd):
    """It belongs into a failed test's report, not between the lines of pytest."""
    printing = "import sys; print('to stdout', flush=True); print('to stderr', file=sys.stderr)"
    service = start(write(create=printing))
    service.call("database", "create_session")
    assert {"to stdout", "to stderr"} <= set(service.process.last_lines().splitlines())
    assert capfd.readouterr() == ("", "")


def test_steps_are_recorded_with_their_depth_and_bound_arguments(start, write):
    """The diagram shows which function called which, and by parameter names however they were passed."""
    service, recorder = start(write()), Recorder()
    service.record_to(recorder)
    service.call("logger", "log_interaction", PROMPT, "hi", session_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    steps = [(event.kind, event.fields["function"], event.fields["depth"]) for event in recorder.events()]
    assert steps == [
        ("enter", "log_interaction", 0),
        *[("enter", "create_session", 1), ("return", "create_session", 1)],
        *[("enter", "log_interaction", 1), ("return", "log_interaction", 1)],
        ("return", "log_interaction", 0),
    ]
    session = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    texts = {"prompt": f"text({len(PROMPT)})", "response": "text(2)"}
    assert recorder.events()[0].fields["arguments"] == texts | {"session_id": session}
    assert recorder.events()[1].fields["arguments"] == {"session_id": session}


def test_a_step_that_raises_is_recorded_at_each_level(start, write):
    """Who swallowed an error, and who passed it on, is what the record is for."""
    service, recorder = start(write(create="raise KeyError(session_id)")), Recorder()
    service.record_to(recorder)
    service.call("logger", "log_interaction", PROMPT, "hi", session_id="a")
    raised = [(event.fields["function"], event.fields["error"]) for event in recorder.events() if event.kind == "raise"]
    assert raised == [(name, {"type": "KeyError", "code": None}) for name in ("create_session", "log_interaction")]


@pytest.mark.parametrize(
    "log", ["return prompt", "return {'said': [prompt]}", "raise ValueError(prompt)", "return {prompt: 1}"]
)
def test_no_prompt_enters_an_event(start, write, log):
    """Reports are published by CI systems; prompts are the customers'."""
    service, recorder = start(write(log=log)), Recorder()
    service.record_to(recorder)
    outcome = service.call("logger", "log_interaction", PROMPT, PROMPT, session_id="a")
    service.call("logger", "log_interaction", PROMPT, PROMPT, PROMPT, PROMPT, PROMPT, PROMPT, "too many")
    assert PROMPT in json.dumps([outcome.value, outcome.message]), "the caller is to have it"
    assert len(recorder.events()) >= 6
    assert PROMPT not in json.dumps([event.as_json("run") for event in recorder.events()])


def test_nothing_is_recorded_for_whom_it_is_not_meant(start, write):
    """Between two tests a service may still be busy with the first."""
    service, recorder = start(write()), Recorder()
    service.record_to(recorder)
    service.record_to(None)
    service.call("database", "create_session")
    assert recorder.events() == []
