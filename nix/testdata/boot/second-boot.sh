#!/usr/bin/env bash
# second-boot.sh starts with the artifacts of the previous boot, and kills the whole unit of
# the agent, with its stream.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
state=/opt/lab/state._+@:-
unit=pika-cloud-managed-agent.service

touch /run/healthy
reaches ready
await active "$unit" active
keep second-boot
rm /run/healthy
rm -f "$state/result.json.prev"
systemctl kill --signal=KILL "$unit"
await test -e "$state/result.json.prev"
keep killed
