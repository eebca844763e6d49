#!/usr/bin/env python3
"""Runs one CI job and tells the host what becomes of it.

    usage: ci-job.py [--state-dir DIR] [--user NAME] [--kill-after SECONDS] REQUEST

REQUEST is a JSON file: {"schema_version": 2, "command": "make test",
"timeout_secs": 600, "run_as_root": true}. The command runs in bash, in a
session of its own; what it says goes to standard output and to
DIR/logs/guest.log. What it leaves running in its process group is killed.
$INGEST_FLAGS are further flags of ingest, parted by blanks.

Its exit code is the command's (128 + N if signal N ended it), 124 if the
command took longer than timeout_secs, 2 if the request cannot be served.
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
    """Says something to an operator; nothing in it is obeyed by a terminal."""
    line = text.encode("unicode_escape").decode("ascii")
    with contextlib.suppress(OSError):
        write_all(2, f"ci-job: {line}\n".encode("ascii"))


def write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class Lifecycle:
    """The stream of directives. If its reader is gone, the job goes on."""

    def __init__(self, state_dir: str, grace: float) -> None:
        # The job must not inherit the pipe: it would keep the stream open for
        # as long as anything that the job started lives. Python's pipes are
        # closed by exec (PEP 446).
        command = ["pika-cloud-lifecycle", "ingest", *os.environ.get("INGEST_FLAGS", "").split()]
        command += ["--state-dir", state_dir, "--require-result", "--grace", f"{grace}s"]
        self._ingest: Optional[subprocess.Popen[bytes]] = None
        self._gone = False
        try:
            self._ingest = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
        except OSError as error:
            self._lose(error)

    def report(self, state: str, message: str, **fields: object) -> None:
        """Prints one transition. json.dumps keeps any text on one line;
        shlex.quote does not: a newline would start a directive of its own."""
        line = json.dumps({"state": state, "message": message, **fields}) + "\n"
        if self._ingest is None or self._ingest.stdin is None or self._gone:
            return
        try:
            write_all(self._ingest.stdin.fileno(), line.encode("ascii"))
        except OSError as error:  # BrokenPipeError, mostly
            self._lose(error)

    def close(self) -> None:
        """Ends the stream and waits until its artifacts are written."""
        if self._ingest is None or self._ingest.stdin is None:
            return
        self._ingest.stdin.close()
        code = self._ingest.wait()
        if code != 0:
            note(f"ingest exited with {code}")

    def _lose(self, error: OSError) -> None:
        self._gone = True
        note(f"ingest is gone: the host learns no more of this run ({error})")


class BadRequest(Exception):
    """A request that cannot be served."""


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
        raise BadRequest("the Incus guest request is no JSON object")
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
        raise BadRequest(f"timeout_secs: expected seconds, more than 0 and {LONGEST_JOB:.0f} at most")
    if not isinstance(as_root, bool):
        raise BadRequest("run_as_root: expected true or false")
    return Request(command, float(limit), as_root)


@dataclass(frozen=True)
class Identity:
    """Whom the job runs as; by default the user that runs this program."""

    user: Optional[int] = None
    group: Optional[int] = None
    groups: Optional[list[int]] = None
    env: Optional[dict[str, str]] = None


def identity(request: Request, name: Optional[str]) -> Identity:
    """Whom the request means; what cannot be had is refused, not ignored."""
    root = os.geteuid() == 0
    if request.run_as_root:
        if not root:
            raise BadRequest("run_as_root is true, but this runner is not root")
        return Identity()
    if not root:
        return Identity()
    if name is None:
        raise BadRequest("run_as_root is false, but this runner is root and was given no --user")
    return unprivileged(name)


def unprivileged(name: str) -> Identity:
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise BadRequest(f"there is no user {name}") from error
    if entry.pw_uid == 0:
        raise BadRequest(f"run_as_root is false, but {name} is root")
    env = {**os.environ, "HOME": entry.pw_dir, "USER": name, "LOGNAME": name}
    return Identity(entry.pw_uid, entry.pw_gid, os.getgrouplist(name, entry.pw_gid), env)


class Tee:
    """Copies what the job says to descriptors; one that fails is left out."""

    def __init__(self, *sinks: int) -> None:
        self._sinks = list(sinks)

    def copy(self, source: int) -> bool:
        """Copies what is there, up to all that a pipe can hold; returns false
        at the end of the source."""
        data = os.read(source, 1 << 20)
        for sink in list(self._sinks):
            try:
                write_all(sink, data)
            except OSError as error:
                self._sinks.remove(sink)
                note(f"the job's output is no longer copied to descriptor {sink}: {error}")
        return bool(data)


def open_log(state_dir: str) -> list[int]:
    """Opens DIR/logs/guest.log anew. The directory may belong to the job's
    user, so nothing that lies there is written to or followed."""
    path = os.path.join(state_dir, "logs", "guest.log")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)]
    except OSError as error:
        note(f"the job has no log: {error}")
        return []


@dataclass(frozen=True)
class Ending:
    code: int  # of the command, 128 + N if signal N ended it
    reason: str = ""  # why this program ended it: timeout, terminated


class Job:
    """A command in a session, and so in a process group, of its own."""

    def __init__(self, command: str, who: Identity, tee: Tee) -> None:
        self._tee = tee
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=who.user,
            group=who.group,
            extra_groups=who.groups,
            env=who.env,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        self._exited = os.pidfd_open(self._process.pid)

    def run(self, timeout: float, kill_after: float, stop: int) -> Ending:
        """Waits for the command, and ends it after timeout or when stop can be read."""
        reason = self._watch(timeout, kill_after, stop)
        # The command is not reaped before its group is killed, for until then
        # no other group can have its number.
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
                    # All that the command said was there to be copied. The end
                    # of the output is not waited for: what the command left in
                    # a session of its own may hold it open for ever.
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
        """Waits until there is something to do, and copies what the job said."""
        events = selector.select(max(0.0, deadline - time.monotonic()))
        ready = {key.fd for key, _ in events}
        if self._output in ready and not self._tee.copy(self._output):
            selector.unregister(self._output)
        return ready

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def catch_stop_signals() -> int:
    """Returns a descriptor that can be read once this program is to end."""
    stop, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup(1) asks for
            signal.signal(number, lambda *_: None)
    return stop


def conclude(lifecycle: Lifecycle, request: Request, ending: Ending) -> int:
    """Gives the verdict and returns the exit code that it names."""
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


def serve(lifecycle: Lifecycle, options: argparse.Namespace, stop: int) -> int:
    request = read_request(options.request)
    who = identity(request, options.user)
    details = {"command": request.command, "run_as_root": request.run_as_root}
    lifecycle.report("starting", "launching guest command", details=details)
    tee = Tee(1, *open_log(options.state_dir))
    try:
        job = Job(request.command, who, tee)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BadRequest(f"cannot start the command: {error}") from error
    ending = job.run(request.timeout_secs, options.kill_after, stop)
    return conclude(lifecycle, request, ending)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci-job.py", allow_abbrev=False)
    default = os.environ.get("PIKA_LIFECYCLE_DIR") or "/run/pika-cloud"
    parser.add_argument("--state-dir", default=default, metavar="DIR", help=f"where the artifacts are ({default})")
    parser.add_argument("--user", metavar="NAME", help="whom a job runs as whose run_as_root is false")
    parser.add_argument("--kill-after", type=float, default=10.0, metavar="SECONDS",
                        help="from SIGTERM to SIGKILL (10)")
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
    # Where a whole unit is signalled at once, ingest must read on for longer
    # than the job may take to end.
    lifecycle = Lifecycle(options.state_dir, options.kill_after + 5)
    lifecycle.report("booted", "incus guest booted")
    try:
        return serve(lifecycle, options, stop)
    except BadRequest as error:
        message = f"Incus guest bootstrap failed: {error}"
        note(message)
        lifecycle.report("failed", message, exit_code=EXIT_REQUEST)
        return EXIT_REQUEST
    finally:
        lifecycle.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
