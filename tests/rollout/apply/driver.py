"""Carries out plans in processes that may be killed, at a point of them: before or after anything sent to the server.

Reads one line of JSON a run from standard input, forks, and answers with how the child ended, how many points it
came past and how many steps it did. The imports are done once.
"""

import json
import os
import signal
import sys
import threading
import traceback

import psycopg

from session_fix.errors import SessionFixError
from session_fix.rollout import plan as plans
from session_fix.rollout import revisions
from session_fix.rollout.apply import apply

WAIT = psycopg.Connection.wait


class Points:
    """Counts every exchange of the main thread with the server, twice, and does something at one of them."""

    def __init__(self, task):
        self.passed, self._at, self._what, self._admin = 0, task.get("point"), task.get("what"), task["admin"]

    def install(self):
        """Have each exchange counted, but for those that only read."""
        points = self

        def wait(connection, *args, **options):
            ours = threading.current_thread() is threading.main_thread() and points.counts(connection)
            if ours:
                points.come_past(connection)
            answer = WAIT(connection, *args, **options)
            if ours:
                points.come_past(connection)
            return answer

        psycopg.Connection.wait = wait

    def counts(self, connection):
        """Say whether it counts: all that is written goes through these two sessions."""
        name = connection.pgconn.parameter_status(b"application_name") if not connection.closed else None
        return name in (b"session-fix migrate lock", b"session-fix migrate steps")

    def come_past(self, connection):
        """Count one, and strike if it is the one."""
        self.passed += 1
        if self.passed != self._at:
            return
        pid = connection.pgconn.backend_pid
        match self._what:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crash":  # the server ends all its sessions, forgets what is in memory, and recovers from its log
                os.kill(pid, signal.SIGKILL)
            case "terminate":
                psycopg.Connection.wait = WAIT
                with psycopg.connect(**self._admin, autocommit=True) as admin:
                    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
                self.install()


def child(task, out):
    """Carry out one plan; end with the code of what went wrong."""
    points = Points(task)
    points.install()
    code, done = 0, 0
    try:
        done = len(apply(plans.read(task["plan"]), task["params"]).done)
    except SessionFixError as error:
        code = error.exit_code
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001  the test shows it
        traceback.print_exc()
        code = 99
    os.write(out, json.dumps({"points": points.passed, "done": done}).encode())
    os._exit(code)


def main():
    """Serve until standard input ends."""
    revisions.chain()
    for line in sys.stdin:
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(read)
            child(json.loads(line), write)
        os.close(write)
        told = os.read(read, 4096) or b'{"points": 0}'  # it was killed
        os.close(read)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(json.dumps({"code": code} | json.loads(told)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
