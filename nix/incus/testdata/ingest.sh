#!/usr/bin/env bash
# ingest.sh stands on PATH for pika-cloud-lifecycle. It tells INGEST_NEWS its pid
# and its arguments, then becomes INGEST, whose acknowledgements follow.
set -euo pipefail

echo "$$ $*" >"$INGEST_NEWS"
exec "$INGEST" "$@" --ack-fd 4 4>"$INGEST_NEWS"
