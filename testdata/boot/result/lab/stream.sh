#!/usr/bin/env bash
# A boot script that starts ingest, which is not the main process of the unit.
exec 3> >(exec /opt/lab/pika-cloud-lifecycle ingest --state-dir /run/stream --require-result)
ingest=$!
trap : PIPE
echo STATE=starting >&3
echo STATE=ready >&3
until [ -e /run/stream-end ]; do sleep 0.02; done
echo STATE=failed EXIT_CODE=7 >&3
exec 3>&-
wait "$ingest"
