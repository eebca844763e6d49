"""Prints a directive the way that Python callers do."""

import json
import sys

print(json.dumps({"state": "ready", "message": sys.argv[1]}))
