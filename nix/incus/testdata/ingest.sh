#!/usr/bin/env bash
# ingest.sh is on PATH as pika-cloud-lifecycle. It prints its process ID and arguments
# to INGEST_NEWS, and then executes INGEST, which sends its acknowledgements there.
set -euo pipefail

echo "$$ $*" >"$INGEST_NEWS"
exec "$INGEST" "$@" --ack-fd 4 4>"$INGEST_NEWS"
