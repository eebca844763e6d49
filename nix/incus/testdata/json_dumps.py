"""Prints a directive the way that Python callers should."""

import json
import sys

print(json.dumps({"state": "ready", "message": sys.argv[1]}))
