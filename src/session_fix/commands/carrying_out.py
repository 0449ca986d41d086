"""What ``apply`` and ``rollback`` have in common; their lines of progress, which ``repair`` and ``option`` share."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from session_fix.cli_options import write_report
from session_fix.commands.options import database_options, replicas_option
from session_fix.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from session_fix.rollout.data_api import DataApi
    from session_fix.rollout.happening import Event
    from session_fix.rollout.plan import Plan

OPTIONS = (
    click.option("--database", "typed", metavar="NAME", default="", help="Its name, where it looks like production."),
    click.option(
        "--patience",
        "patience_s",
        metavar="SECONDS",
        type=click.FloatRange(0, 86_400),
        default=600.0,
        show_default=True,
        help="How long to wait for another rollout, for a lock, or for a replica.",
    ),
    click.option(
        "--tries",
        type=click.IntRange(1, 100_000),
        default=100,
        show_default=True,
        help="How often to try a step that others are in the way of.",
    ),
    replicas_option,
    click.option(
        "--api",
        "api_url",
        metavar="URL",
        help="Wait at the end until this data API serves the new schema; its key is in SUPABASE_SERVICE_ROLE_KEY.",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both have."""
    command = database_options(command)
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def data_api_at(url: str | None, *, allow_remote: bool) -> DataApi | None:
    """Return the data API that --api names, None where it names none. Raises ``UsageError``."""
    from session_fix.rollout import data_api  # noqa: PLC0415  `--help` should not wait for it

    return data_api.named(url, allow_remote=allow_remote) if url is not None else None


def carry_out(
    plan: Plan,
    params: Mapping[str, str],
    *,
    allowed: tuple[str, ...],
    typed: str,
    patience_s: float,
    tries: int,
    ignore_replicas: bool,
    api: DataApi | None,
    json_file: str | None,
) -> None:
    """Apply a plan, show how far it is, and print how it went. Raises what ``apply.apply`` raises."""
    from session_fix.report import applied as report  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import apply as applying  # noqa: PLC0415
    from session_fix.rollout.retrying import Ramp  # noqa: PLC0415

    with _terminated_as_interrupted():
        applied = applying.apply(
            plan,
            params,
            allowed=allowed,
            typed=typed,
            ramp=Ramp(tries=tries, patience_s=patience_s),
            ignore_replicas=ignore_replicas,
            api=api,
            on=Shown(),
        )
    if json_file:
        write_report(json_file, json.dumps(report.as_json(applied), indent=1))
    click.echo(report.text(applied))


class Shown:
    """Prints what happens, a line each: a rollout is watched, and its lines are read again afterwards."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Progress().console

    def __call__(self, event: Event) -> None:
        """Print it."""
        from session_fix.rollout.happening import Begun, Done, Said, Waiting  # noqa: PLC0415  see above

        match event:
            case Begun(step, number, of):
                line = f"Step {number} of {of}: {step.id}, {step.kind} ..."
            case Waiting():
                line = f"  waiting: {event}"
            case Said(text):
                line = f"  {text}"
            case Done():
                line = f"  done in {event.seconds:.2f} s" + (f", {event.tries} tries" if event.tries > 1 else "")
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do for the block what Ctrl-C does: the step is cancelled, and what is done is said."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
