#!/usr/bin/env bash
# fifo.sh prints to the FIFO of a booted system in several ways, kills ingest in
# between, and ends with the power-off.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
state=/var/lib/pika-cloud
unit=pika-cloud-lifecycle.service
fifo=$state/lifecycle.fifo

bash /opt/lab/restart.sh
active pika-cloud-lifecycle.socket active
active "$unit" inactive # there was no directive since
stat -c '%A %U %G' "$fifo" "$state" >"$out/modes"
systemctl show -p LogRateLimitBurst -p LogRateLimitIntervalUSec -p User "$unit" >"$out/shown"

# The guest socket of Incus, which accepts all requests.
mkdir -p /dev/incus
python3 /opt/lab/incus.py /dev/incus/sock "$out/incus" &
await test -S /dev/incus/sock

# Three writers open and close the FIFO.
echo "STATE=booted MESSAGE='first writer'" >"$fifo"
await in_state booted
exec 3>|"$fifo"
printf 'STATE=starting MESSAGE=%q\n' "it's the second writer" >&3
exec 3>&-
exec 3>"$fifo"
echo '{"state":"ready","message":"third writer"}' >&3
reaches ready
await grep -q Ready "$out/incus"
await shows "$unit" "ready: third writer"

# Directives wait while ingest is down. The next line starts it again.
systemctl kill --signal=KILL "$unit"
gone() { ! active "$unit" active; }
await gone
echo 'KIND=ready MESSAGE="fourth, without ingest"' >&3
echo 'nonsense' >&3
exec 3>&-
await grep -q fourth "$state/events.jsonl"
await test -s "$state/rejected.jsonl"

# A rejected line does not fail the unit. Stopping the unit ends the run.
systemctl stop "$unit"
systemctl show --value -p Result "$unit" >"$out/result"
keep ended
echo 'STATE=booted MESSAGE=fifth' >"$fifo"
await in_state booted
await mirrors MESSAGE=fifth
journalctl -o json --all SYSLOG_IDENTIFIER=pika-cloud-lifecycle | jq -r 'select(.MESSAGE_ID) | .PIKA_KIND // .PIKA_OUTCOME // "reject"' | tail -n 8 >"$out/mirror"
