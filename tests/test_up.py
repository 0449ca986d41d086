"""A service that is left running to try by hand: what it prints works, and it ends with its service or by Ctrl-C."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROGRAM = Path(sys.executable).parent / "session-fix"
LAST_LINE = "The database:"
NOT_PASSED_ON = ("PYTEST_", "SESSION_FIX_", "SUPABASE_")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def up(tmp_path):
    """Start the broken service; return its process and what it printed. It is ended with the test."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}
    command = [PROGRAM, "up", "before"]
    with (
        (tmp_path / "err").open("w") as err,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=err, text=True) as process,
    ):
        printed = []
        for line in process.stdout:
            printed.append(line)
            if LAST_LINE in "".join(printed[-2:-1]):
                break
        try:
            yield process, "".join(printed)
        finally:
            process.kill()  # its guards end the rest


def pasted(command):
    """Do what a printed ``curl -X POST`` line does; return the status and the body."""
    words = shlex.split(command)
    (url,) = [word for word in words if word.startswith("http")]
    data = words[words.index("-d") + 1].encode() if "-d" in words else b""
    headers = {"content-type": "application/json"} if "-d" in words else {}
    request = urllib.request.Request(url, data, headers, method="POST")  # noqa: S310  a URL it printed
    try:
        with DIRECT.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def refuses(url):
    """Say whether nothing listens there any more."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_it_prints_works_until_ctrl_c(up):
    """Somebody pastes the two lines into another terminal, and sees the failure with their own eyes."""
    process, printed = up
    create, ask = re.findall(r"curl -s -X POST .*", printed)
    status, body = pasted(create)
    assert status == 200
    assert pasted(ask.replace("PASTE-IT-HERE", json.loads(body)["session_id"]))[0] == 500
    listening = {f"http://{place}" for place in re.findall(r"http://([0-9.]+:[0-9]+)", printed)}
    assert len(listening) == 2, "the backend and the data API"
    assert not any(map(refuses, listening))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert all(map(refuses, listening))


def test_it_ends_when_its_service_does(up, descendants, tmp_path):
    """Left running without its service it would answer nobody, and say nothing."""
    process, _ = up
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    commands = {int(line.split()[0]): line for line in listed.splitlines()}
    (service,) = [pid for pid in descendants(process.pid) if "host/runner.py" in commands.get(pid, "")]
    os.kill(service, signal.SIGKILL)
    assert process.wait(30) == 3
    said = (tmp_path / "err").read_text()
    assert "the service before ended with exit code" in said
    assert "Traceback" not in said
