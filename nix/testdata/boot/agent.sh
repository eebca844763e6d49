#!/usr/bin/env bash
# agent.sh takes a managed agent through these states: ready, failed, restarted, ready,
# and stopped by the power-off that ends this boot.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
state=/opt/lab/state._+@:-
unit=pika-cloud-managed-agent.service

await in_state starting
systemctl show --value -p ActiveState "$unit" >"$out/while-starting"
touch /run/healthy
reaches ready
await active "$unit" active
await shows "$unit" "ready: managed OpenClaw guest ready"
await mirrors PIKA_KIND=ready
keep ready

rm /run/healthy
echo 7 >/var/lib/agent/orders
failed() { [[ -e $state/result.json.prev ]] && in_state starting; }
await failed
keep failed
systemctl show --value -p NRestarts "$unit" >"$out/restarts"

touch /run/healthy
await in_state ready
await active "$unit" active
cp /var/lib/agent/output "$out/agent"
cp /var/lib/agent/argument "$out/argument"
