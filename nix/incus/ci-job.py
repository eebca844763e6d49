#!/usr/bin/env python3
"""Runs one CI job and reports each state to the host.

    usage: ci-job.py [--state-dir DIR] [--user NAME] [--kill-after SECONDS] REQUEST

REQUEST is a JSON file: {"schema_version": 2, "command": "make test",
"timeout_secs": 600, "run_as_root": true}. The command runs in bash, in a
new session. Its output goes to standard output and to DIR/logs/guest.log. When
it ends, the rest of its process group is killed. $INGEST_FLAGS has further
flags of ingest, separated by blanks.

Exit status: the exit code of the command (128 + N if signal N ended it); 124 if
it took longer than timeout_secs; 2 if the request is invalid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Optional

LONGEST_JOB = 7 * 24 * 3600.0
EXIT_REQUEST = 2
EXIT_TIMEOUT = 124  # as timeout(1)


def note(text: str) -> None:
    """Prints a line on stderr, with control characters escaped."""
    line = text.encode("unicode_escape").decode("ascii")
    with contextlib.suppress(OSError):
        write_all(2, f"ci-job: {line}\n".encode("ascii"))


def write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class Lifecycle:
    """The stream of directives. If ingest ends, the job continues."""

    def __init__(self, state_dir: str, grace: float) -> None:
        # The job must not inherit the pipe, because any process that the job
        # leaves would keep the stream open. exec closes Python's pipes (PEP 446).
        command = ["pika-cloud-lifecycle", "ingest", *os.environ.get("INGEST_FLAGS", "").split()]
        command += ["--state-dir", state_dir, "--require-result", "--grace", f"{grace}s"]
        self._ingest: Optional[subprocess.Popen[bytes]] = None
        self._ended = False
        try:
            self._ingest = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
        except OSError as error:
            self._lose("start", error)

    def report(self, state: str, message: str, **fields: object) -> None:
        """Prints one transition. json.dumps keeps any text on one line. With
        shlex.quote a newline in it would start another directive."""
        line = json.dumps({"state": state, "message": message, **fields}) + "\n"
        if self._ingest is None or self._ingest.stdin is None or self._ended:
            return
        try:
            write_all(self._ingest.stdin.fileno(), line.encode("ascii"))
        except OSError as error:  # usually BrokenPipeError
            self._lose("write to", error)

    def close(self) -> None:
        """Ends the stream and waits until its artifacts are written."""
        if self._ingest is None or self._ingest.stdin is None:
            return
        self._ingest.stdin.close()
        code = self._ingest.wait()
        if code != 0:
            note(f"ingest exited with {code}")

    def _lose(self, action: str, error: OSError) -> None:
        self._ended = True
        note(f"cannot {action} ingest: {error}; the host does not see the rest of this run")


class BadRequest(Exception):
    """An invalid request, or one that this runner cannot run."""


@dataclass(frozen=True)
class Request:
    command: str
    timeout_secs: float
    run_as_root: bool


def read_request(path: str) -> Request:
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise BadRequest(f"cannot read the Incus guest request: {error}") from error
    if not isinstance(fields, dict):
        raise BadRequest("the Incus guest request is not a JSON object")
    version = fields.pop("schema_version", None)
    if type(version) is not int or version != 2:  # True == 1, 2.0 == 2
        raise BadRequest(f"unsupported Incus guest request schema_version={version}")
    return check_fields(fields)


def check_fields(fields: dict[str, object]) -> Request:
    known = {"command", "timeout_secs", "run_as_root"}
    if fields.keys() != known:
        wrong = ", ".join(sorted(fields.keys() ^ known))
        raise BadRequest(f"unknown or missing in the Incus guest request: {wrong}")
    command, limit, as_root = fields["command"], fields["timeout_secs"], fields["run_as_root"]
    if not isinstance(command, str) or not command:
        raise BadRequest("command: expected a command line")
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit <= LONGEST_JOB:
        raise BadRequest(f"timeout_secs: expected seconds, more than 0 and at most {LONGEST_JOB:.0f}")
    if not isinstance(as_root, bool):
        raise BadRequest("run_as_root: expected true or false")
    return Request(command, float(limit), as_root)


@dataclass(frozen=True)
class Identity:
    """The user that runs the job; by default the user that runs this program."""

    user: Optional[int] = None
    group: Optional[int] = None
    groups: Optional[list[int]] = None
    env: Optional[dict[str, str]] = None


def identity(request: Request, name: Optional[str]) -> Identity:
    """Returns the user for a request, and rejects one that is not possible."""
    root = os.geteuid() == 0
    if request.run_as_root:
        if not root:
            raise BadRequest("run_as_root is true, but this runner is not root")
        return Identity()
    if not root:
        return Identity()
    if name is None:
        raise BadRequest("run_as_root is false, but this runner is root and has no --user")
    return unprivileged(name)


def unprivileged(name: str) -> Identity:
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise BadRequest(f"there is no user {name}") from error
    if entry.pw_uid == 0:
        raise BadRequest(f"run_as_root is false, but {name} has user ID 0")
    env = {**os.environ, "HOME": entry.pw_dir, "USER": name, "LOGNAME": name}
    return Identity(entry.pw_uid, entry.pw_gid, os.getgrouplist(name, entry.pw_gid), env)


class Tee:
    """Copies the output of the job to descriptors, until one of them fails."""

    def __init__(self, *sinks: int) -> None:
        self._sinks = list(sinks)

    def copy(self, source: int) -> bool:
        """Copies what a pipe can hold, and returns false at the end of the source."""
        data = os.read(source, 1 << 20)
        for sink in list(self._sinks):
            try:
                write_all(sink, data)
            except OSError as error:
                self._sinks.remove(sink)
                note(f"the job's output is no longer copied to descriptor {sink}: {error}")
        return bool(data)


def open_log(state_dir: str) -> list[int]:
    """Creates a new DIR/logs/guest.log. The user of the job may own the directory,
    so this replaces an existing file or link and never writes through it."""
    path = os.path.join(state_dir, "logs", "guest.log")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)]
    except OSError as error:
        note(f"cannot create the log of the job: {error}")
        return []


@dataclass(frozen=True)
class Ending:
    code: int  # of the command, 128 + N if signal N ended it
    reason: str = ""  # for which this program ended it: timeout, terminated


class Job:
    """A command in a new session, and so in a new process group."""

    def __init__(self, command: str, user: Identity, tee: Tee) -> None:
        self._tee = tee
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.user,
            group=user.group,
            extra_groups=user.groups,
            env=user.env,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        self._exited = os.pidfd_open(self._process.pid)

    def run(self, timeout: float, kill_after: float, stop: int) -> Ending:
        """Waits for the command, and ends it after timeout or when stop can be read."""
        reason = self._watch(timeout, kill_after, stop)
        # Kill the group before reaping the command: until then no other group can
        # get its number.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        return Ending(code if code >= 0 else 128 - code, reason)

    def _watch(self, timeout: float, kill_after: float, stop: int) -> str:
        reason, deadline = "", time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for fd in (self._exited, self._output, stop):
                selector.register(fd, selectors.EVENT_READ)
            while True:
                ready = self._select(selector, deadline)
                if self._exited in ready:
                    # All output of the command has been copied. Do not wait for the
                    # end of the output: a process that the command left in another
                    # session may keep it open.
                    return reason
                late = time.monotonic() >= deadline
                if late and reason:
                    self._signal(signal.SIGKILL)
                    return reason
                if late or stop in ready:
                    reason = "timeout" if late else "terminated"
                    selector.unregister(stop)
                    self._signal(signal.SIGTERM)
                    deadline = time.monotonic() + kill_after

    def _select(self, selector: selectors.BaseSelector, deadline: float) -> set[int]:
        """Waits for an event or the deadline, and copies output of the job."""
        events = selector.select(max(0.0, deadline - time.monotonic()))
        ready = {key.fd for key, _ in events}
        if self._output in ready and not self._tee.copy(self._output):
            selector.unregister(self._output)
        return ready

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def catch_stop_signals() -> int:
    """Returns a descriptor that becomes readable when a stop signal arrives."""
    stop, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup(1) sets it
            signal.signal(number, lambda *_: None)
    return stop


def report_end(lifecycle: Lifecycle, request: Request, ending: Ending) -> int:
    """Reports the result and returns its exit code."""
    code = ending.code
    message = f"test command exited with {code}"
    if ending.reason == "timeout":
        code = EXIT_TIMEOUT
        message = f"test command timed out after {request.timeout_secs:g} seconds"
    elif ending.reason == "terminated":
        message = "test command was terminated"
    elif code == 0:
        lifecycle.report("completed", "test passed", exit_code=0, details={"exit_code": 0})
        return 0
    details: dict[str, object] = {"exit_code": code}
    if ending.reason:
        details["reason"] = ending.reason
    lifecycle.report("failed", message, exit_code=code, details=details)
    return code


def run_request(lifecycle: Lifecycle, options: argparse.Namespace, stop: int) -> int:
    request = read_request(options.request)
    user = identity(request, options.user)
    details = {"command": request.command, "run_as_root": request.run_as_root}
    lifecycle.report("starting", "launching guest command", details=details)
    tee = Tee(1, *open_log(options.state_dir))
    try:
        job = Job(request.command, user, tee)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BadRequest(f"cannot start the command: {error}") from error
    ending = job.run(request.timeout_secs, options.kill_after, stop)
    return report_end(lifecycle, request, ending)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci-job.py", allow_abbrev=False)
    default = os.environ.get("PIKA_LIFECYCLE_DIR") or "/run/pika-cloud"
    parser.add_argument("--state-dir", default=default, metavar="DIR", help=f"state directory (default {default})")
    parser.add_argument("--user", metavar="NAME", help="user for jobs with run_as_root set to false")
    parser.add_argument("--kill-after", type=float, default=10.0, metavar="SECONDS",
                        help="seconds between SIGTERM and SIGKILL (default 10)")
    parser.add_argument("request", metavar="REQUEST")
    options = parser.parse_args(arguments)
    if options.user is not None and os.geteuid() != 0:
        parser.error("--user needs root")
    if not 0 <= options.kill_after <= 3600:
        parser.error("--kill-after: expected 0 to 3600 seconds")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    stop = catch_stop_signals()
    # systemd may signal the whole unit at the same time. ingest must then continue
    # to read for longer than the job may take to end.
    lifecycle = Lifecycle(options.state_dir, options.kill_after + 5)
    lifecycle.report("booted", "incus guest booted")
    try:
        return run_request(lifecycle, options, stop)
    except BadRequest as error:
        message = f"Incus guest bootstrap failed: {error}"
        note(message)
        lifecycle.report("failed", message, exit_code=EXIT_REQUEST)
        return EXIT_REQUEST
    finally:
        lifecycle.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
