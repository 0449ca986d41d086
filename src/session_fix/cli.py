"""The command line. Results go to standard output, progress to standard error; see ``errors.py`` for exit codes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any

import click
from rich.console import Console

import session_fix
from session_fix import cli_explore, cli_migrate
from session_fix import settings as settings_module
from session_fix.cli_options import EXIT_CODES, check_reports, stack_options, write_report
from session_fix.commands.audit import audit
from session_fix.commands.repair import repair
from session_fix.errors import SessionFixError, UsageError
from session_fix.progress import Progress

INTERRUPTED = 130
PIPE_CLOSED = 0


class Group(click.Group):
    """Turns our errors into one message and their exit code, and keeps tracebacks for --debug."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except SessionFixError as error:
            if context.params.get("debug"):
                raise
            click.echo(f"session-fix: {error}", err=True)
            context.exit(error.exit_code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(session_fix.__version__, prog_name="session-fix")
@click.option("--debug", is_flag=True, help="Show tracebacks of our own errors.")
def cli(debug: bool) -> None:  # noqa: FBT001  read by Group
    """Reproduce, prove and roll out the idempotent create_session() fix.

    Exit codes: 0 pass, 1 findings, 2 wrong usage, 3 environment unavailable or inconclusive.
    """


@cli.command()
@click.argument("variants", nargs=-1, metavar="[VARIANT]...")
@click.option(
    "--service", metavar="DIR", help="Replay this service, which must be healthy; alone unless a VARIANT is named."
)
@click.option(
    "--format", "form", type=click.Choice(["console", "mermaid", "json"]), default="console", show_default=True
)
@click.option(
    "--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write the JSON here as well."
)
@click.option("--junit", "junit_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JUnit XML here.")
@click.option("--timings", is_flag=True, help="Say where the time went.")
@stack_options
def replay(
    variants: tuple[str, ...],
    service: str | None,
    form: str,
    json_file: str | None,
    junit_file: str | None,
    timings: bool,  # noqa: FBT001  click passes it by name
    **flags: Any,
) -> None:
    """Replay the broken flow and its fixes, and draw what happened.

    VARIANT is before, documented or fixed; all three by default. Exit code 0 means that each behaved as expected:
    'before' has to break with 23503 and HTTP 500, the others have to store the interaction.
    """
    from session_fix import replay as performing  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.report import lanes  # noqa: PLC0415
    from session_fix.report import replay as report  # noqa: PLC0415
    from session_fix.subjects import chosen  # noqa: PLC0415

    settings = settings_module.load(flags)
    subjects = chosen(variants, service or (None if variants else settings.service))
    check_reports(json_file, junit_file)
    progress = Progress()
    with progress.live():
        replayed = performing.replay(subjects, settings, progress=progress)
    text = json.dumps(report.as_json(replayed), indent=1)
    if json_file:
        write_report(json_file, text)
    if junit_file:
        write_report(junit_file, report.junit_xml(replayed))
    if form == "console":
        out = Console(highlight=False)
        with out.capture() as drawn:
            for line in report.console(replayed, width=out.width, glyphs=lanes.glyphs_for(sys.stdout.encoding)):
                out.print(line, soft_wrap=True)
        text = drawn.get().rstrip("\n")
    elif form == "mermaid":
        text = report.mermaid_text(replayed)
    with suppress(BrokenPipeError):  # `session-fix replay | head` has its verdict all the same
        click.echo(text)
    if timings:
        _print_timings(progress)
    sys.exit(EXIT_CODES[replayed.verdict])


def _print_timings(progress: Progress) -> None:
    click.echo("\nWhere the time went (steps run at the same time):", err=True)
    for doing, seconds in progress.timings.items():
        click.echo(f"  {seconds:6.2f} s  {doing}", err=True)
    click.echo(f"  {time.monotonic() - progress.began:6.2f} s  in all, without starting Python", err=True)


@cli.command()
@click.argument("variant", required=False, metavar="[VARIANT]")
@click.option("--service", metavar="DIR", help="Run this service instead of a variant.")
@click.option("--state", metavar="NAME", help="Fill the database with this state, see fixtures/states.")
@click.option("--size", type=int, help="Of the state, if it has one.")
@click.option("--seed", type=int, help="Of the state's generator.")
@click.option("--database", metavar="NAME", help="Open the database of a failed test again.")
@stack_options
def up(
    variant: str | None,
    service: str | None,
    state: str | None,
    size: int | None,
    seed: int | None,
    database: str | None,
    **flags: Any,
) -> None:
    """Leave a service and its stack running, to try by hand, until Ctrl-C.

    VARIANT is before, documented or fixed (default). Prints URLs, keys made for this run, and lines to paste.
    """
    from session_fix import kept, states, subjects  # noqa: PLC0415  `--help` should not wait for it
    from session_fix import up as running  # noqa: PLC0415

    if database is not None and state is not None:
        raise UsageError("up opens one database: --database or --state?")
    if state is None and (size is not None or seed is not None):
        raise UsageError("--size and --seed are those of a --state.")
    wanted = states.state(state, size=size, seed=seed) if state is not None else None
    one = kept.find(database) if database is not None else None
    settings = settings_module.load(flags)
    if variant and service:
        raise UsageError(f"up runs one service: {variant} or {service}?")
    service = service or (None if variant else settings.service)
    subject = subjects.named(service) if service else subjects.variant(variant or "fixed")
    progress = Progress()
    with ExitStack() as stack:
        with progress.live():
            found = stack.enter_context(running.up(subject, settings, state=wanted, kept=one, progress=progress))
        click.echo(f"{subject.name} is up, on {found.stack['postgres']} and {found.stack['rest']}.\n")
        if one:
            click.echo(f"Its database is as {one.test} left it.\n")
        if found.missing_roles:
            click.echo(f"Roles that came with it, without their rights: {', '.join(found.missing_roles)}.\n", err=True)
        for title, text in found.instructions():
            click.echo(f"{title}:\n  {text}\n")
        click.echo("Ctrl-C stops all of it and forgets the data.", err=True)
        found.service.process.wait_until(lambda: None, timeout_s=math.inf, doing="serving")  # until it ends by itself


@cli.command()
@click.option(
    "--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write the findings as JSON."
)
@stack_options
def doctor(json_file: str | None, **flags: Any) -> None:
    """Say what is installed, what would be used, what is missing, and how to get it.

    Starts nothing. Exit code 0 when the chosen stack can be had, 3 when it cannot.
    """
    from session_fix import doctor as doctors  # noqa: PLC0415  `--help` should not wait for it

    settings = settings_module.load(flags)
    check_reports(json_file)
    findings = doctors.examine(settings)
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "ok     " if finding.good else ("MISSING" if finding.needed else "-      ")
        click.echo(f"{mark}  {finding.what:{width}}  {finding.found}")
        if finding.remedy and not finding.good:
            click.echo(f"{'':9}{'':{width}}  -> {finding.remedy}")
    if json_file:
        write_report(json_file, json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    sys.exit(EXIT_CODES["pass" if all(f.good or not f.needed for f in findings) else "inconclusive"])


@cli.command()
@click.argument("action", type=click.Choice(["show", "clear"]), default="show")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write the list as JSON.")
def cache(action: str, json_file: str | None) -> None:
    """Show what is kept between runs, or clear it.

    Kept are the data API's npm packages, initialised PostgreSQL clusters, and the databases of failed tests. What a run
    needs and does not find, it makes again.
    """
    from session_fix import cached  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.folders import cache as folder  # noqa: PLC0415

    check_reports(json_file)
    found = cached.clear() if action == "clear" else cached.entries()
    for entry in found:
        click.echo(
            f"{entry.size_bytes / 1e6:8.1f} MB  {entry.used.astimezone():%Y-%m-%d %H:%M}  {entry.kind}  {entry.name}"
        )
    said = "removed from" if action == "clear" else "in"
    click.echo(f"{sum(entry.size_bytes for entry in found) / 1e6:8.1f} MB  {said} {folder()}")
    if json_file:
        write_report(json_file, json.dumps([dataclasses.asdict(entry) for entry in found], indent=1, default=str))


cli.add_command(cli_explore.explore)
cli.add_command(cli_explore.rerun)
cli.add_command(audit)
cli.add_command(cli_migrate.migrate)
cli.add_command(repair)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may know ASCII only
    try:
        code = cli.main(standalone_mode=False)  # what a command returns, or the code it exited with
    except SystemExit as ended:
        code = ended.code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("session-fix: interrupted; what it started is being stopped.", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        code = PIPE_CLOSED
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        where = f" ({error.strerror}: {error.filename})" if isinstance(error, OSError) and error.filename else ""
        what = f"unexpected {type(error).__name__}{where}"
        click.echo(f"session-fix: {what}; --debug shows where it comes from.", err=True)
        code = EXIT_CODES["inconclusive"]
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)  # without waiting for threads that wait for what is being stopped
