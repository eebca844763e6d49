"""Prints a directive the way that Python callers must not."""

import shlex
import sys

print("STATE=ready MESSAGE=" + shlex.quote(sys.argv[1]))
