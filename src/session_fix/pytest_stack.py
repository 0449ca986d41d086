"""The stack of one pytest process: started by the first who asks, ended with the session."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import TracebackType

import pytest

from session_fix import stack, wishes
from session_fix.errors import SessionFixError, UsageError
from session_fix.progress import Progress
from session_fix.pytest_plugin import STACK, settings_of
from session_fix.stack import Stack
from session_fix.states import State

RUN_OF_WORKERS = "PYTEST_XDIST_TESTRUNUID"
FAILURE = pytest.StashKey[tuple[BaseException, TracebackType | None]]()  # why there is no stack in this process


def started(session: pytest.Session) -> Stack:
    """Return the stack of this run, which starts at its first use and ends with the session.

    Ends the whole run, not each test, when it cannot be had; nobody tries twice.
    """
    config = session.config
    if running := config.stash.get(STACK, None):
        return running
    if failure := config.stash.get(FAILURE, None):
        error, traceback = failure
        raise error.with_traceback(traceback)
    run_of_workers = os.environ.get(RUN_OF_WORKERS)
    share = hashlib.sha256(run_of_workers.encode()).hexdigest()[:8] if run_of_workers else None
    settings = settings_of(config)
    states = sorted(_wished_states(session.items), key=lambda state: state.label)
    try:
        with ExitStack() as starting:
            with ending_the_run(), said(config):
                running = starting.enter_context(
                    stack.start(settings, stack.new_keys(settings), states=states, progress=Progress(), share=share)
                )
            session.addfinalizer(starting.pop_all().close)
    except (Exception, pytest.fail.Exception, pytest.exit.Exception) as error:
        config.stash[FAILURE] = (error, error.__traceback__)
        raise
    config.stash[STACK] = running
    config.pluginmanager.register(EndOfTest(running), "session-fix-end-of-test")
    return running


class EndOfTest:
    """Registered later than anything a project has, and so around all that its own hooks do at the end of a test."""

    def __init__(self, running: Stack) -> None:
        self._stack = running

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None]:
        """Ask what the test left when all of it has ended: fixtures older than ``database``, and others' hooks."""
        try:
            return (yield)
        finally:
            self._stack.give_back()


def said(config: pytest.Config) -> AbstractContextManager[None]:
    """Let the block say what it waits for, such as npm packages that are installed once."""
    disabled: AbstractContextManager[None] = config.pluginmanager.getplugin(
        "capturemanager"
    ).global_and_fixture_disabled()
    return disabled


@contextmanager
def ending_the_run() -> Iterator[None]:
    """End the whole run, not each test, for an error of ours in the block."""
    try:
        yield
    except SessionFixError as error:
        if RUN_OF_WORKERS in os.environ:  # ending a worker would hide the reason behind an error of pytest-xdist
            pytest.fail(f"session-fix: {error}", pytrace=False)
        pytest.exit(f"session-fix: {error}", returncode=error.exit_code)


def _wished_states(items: list[pytest.Item]) -> set[State]:
    """Return the states that the collected tests ask for; a wrong wish is for its test to fail on."""
    found = set()
    for item in items:
        with suppress(UsageError):
            if state := wishes.state(item):
                found.add(state)
    return found
