"""Services and the stack below them, started at the same time: both wait for other processes most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from session_fix import host, stack
from session_fix.host.service import Service, environment
from session_fix.progress import Progress
from session_fix.settings import Settings
from session_fix.stack import Stack
from session_fix.subjects import Subject
from session_fix.tap import Tap

Started = Future[tuple[Service, Tap]]


@dataclass(frozen=True, slots=True)
class Running:
    """A stack, a process and its tap for each subject or what went wrong with it, and how to start another."""

    stack: Stack
    started: list[Started]
    start: Callable[[Subject], tuple[Service, Tap]]


@contextmanager
def running(
    subjects: Sequence[Subject], settings: Settings, *, layers: Sequence[str], progress: Progress
) -> Iterator[Running]:
    """Yield what runs; ``layers`` are those that every service must have. Raises what starting the stack raises."""
    keys = stack.new_keys(settings)
    pool = ThreadPoolExecutor(max_workers=len(subjects))
    with ExitStack() as cleanup:

        def start_service(subject: Subject) -> tuple[Service, Tap]:
            with progress.step(f"Importing the service {subject.name}"):
                tap = cleanup.enter_context(Tap())
                starting = host.start(subject.directory, environment(tap.url, keys), python=settings.python)
                service = cleanup.enter_context(starting)
                service.require(*layers)
                return service, tap

        services = [pool.submit(start_service, subject) for subject in subjects]
        try:
            with stack.start(settings, keys, progress=progress) as found:
                with progress.step("Migrating the template database"):
                    found.databases.template()
                found.describe()  # starts the data API, while the services are still being imported
                yield Running(found, services, start_service)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what they started ends with this process
            raise
        pool.shutdown()
