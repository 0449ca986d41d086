"""Owners: small programs that hold something of ours until their standard input closes or they are killed."""

import json
import select
import subprocess
import sys
from dataclasses import dataclass

import pytest

ANSWER_TIMEOUT_S = 30


@dataclass
class Owner:
    """A running program that says in JSON lines what it holds."""

    process: subprocess.Popen

    def said(self):
        """Return the next line it printed; fail when none comes."""
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_TIMEOUT_S)
        line = self.process.stdout.readline() if ready else b""
        assert line, f"the owner said nothing; exit code {self.process.poll()}"
        return json.loads(line)

    def leave(self):
        """Let it come to the end of its block; return its exit code."""
        self.process.stdin.close()
        return self.process.wait(ANSWER_TIMEOUT_S)

    def end_with(self, sig):
        """Send it a signal and wait for its end."""
        self.process.send_signal(sig)
        self.process.wait(ANSWER_TIMEOUT_S)


@pytest.fixture
def own():
    """Return a function that starts an owner; whatever still runs is killed with the test."""
    owners = []

    def start(script, *arguments):
        owner = Owner(
            subprocess.Popen(
                [sys.executable, "-c", script, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        )
        owners.append(owner)
        return owner

    yield start
    for owner in owners:
        with owner.process as process:
            process.kill()
