"""Prints a directive in a way that is not safe."""

import shlex
import sys

print("STATE=ready MESSAGE=" + shlex.quote(sys.argv[1]))
