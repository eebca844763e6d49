#!/usr/bin/env bash
# no_failure_report.sh has the defect of an earlier boot script: its service fails, set -e ends
# the script at wait, and it never reports the failure.
set -euo pipefail

exec 3> >(exec pika-cloud-lifecycle ingest --require-result)
echo 'STATE=booted MESSAGE="managed OpenClaw guest booted"' >&3
bash -c 'exit 3' 3>&- &
echo 'STATE=ready MESSAGE="managed OpenClaw guest ready"' >&3
wait $!
echo 'STATE=completed MESSAGE=openclaw_gateway_exited EXIT_CODE=0' >&3
