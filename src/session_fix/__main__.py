"""The entry point: a Ctrl-C while the command line is still being imported ends it as one later does."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        from session_fix import cli  # noqa: PLC0415  the import is what may be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("session-fix: interrupted before anything was started.\n")
        sys.exit(INTERRUPTED)
    cli.main()


if __name__ == "__main__":
    main()
