#!/usr/bin/env python3
"""A stand-in for the Python command that this project replaces.

It implements the protocol of that command, so that tests can run both writers at
the same time. Like the command, it locks the seq file with a blocking flock,
uses the number in that file plus one (an empty file counts as 0), and appends
one event. It writes a status or result to a temporary file and renames it. It does
not repair torn lines, rotate the log, or sync.

    python_writer.py event PATH MESSAGE...
    python_writer.py status PATH STATE MESSAGE
    python_writer.py result PATH STATUS EXIT_CODE MESSAGE
"""

import fcntl
import json
import os
import sys
from datetime import datetime, timezone


def now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def next_seq(seq_file):
    seq_file.seek(0)
    seq = int(seq_file.read().strip() or 0) + 1
    seq_file.seek(0)
    seq_file.truncate()
    seq_file.write(f"{seq}\n")
    seq_file.flush()
    return seq


def event(path, message):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".seq", "a+") as seq_file:
        fcntl.flock(seq_file, fcntl.LOCK_EX)
        line = {
            "schema_version": 1,
            "kind": "ready",
            "timestamp": now(),
            "message": message,
            "boot_id": boot_id(),
            "seq": next_seq(seq_file),
        }
        with open(path, "a") as log:
            log.write(json.dumps(line) + "\n")


def replace(path, value):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as f:
        f.write(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def main(command, path, *args):
    if command == "event":
        for message in args:
            event(path, message)
    elif command == "status":
        state, message = args
        replace(path, {"schema_version": 1, "state": state, "updated_at": now(),
                       "message": message, "boot_id": boot_id()})
    elif command == "result":
        status, exit_code, message = args
        replace(path, {"schema_version": 1, "status": status, "exit_code": int(exit_code),
                       "finished_at": now(), "message": message})
    else:
        sys.exit(f"python_writer.py: {command} is not a command")


if __name__ == "__main__":
    main(*sys.argv[1:])
