#!/usr/bin/env bash
# fifo.sh prints to the FIFO of a booted system in all ways that its writers
# have, has ingest killed in between, and lets the power-off say the last word.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
state=/var/lib/pika-cloud
unit=pika-cloud-lifecycle.service
fifo=$state/lifecycle.fifo

active pika-cloud-lifecycle.socket active
active "$unit" inactive # nothing was printed yet
stat -c '%A %U %G' "$fifo" "$state" >"$out/modes"
systemctl show -p LogRateLimitBurst -p LogRateLimitIntervalUSec -p User "$unit" >"$out/shown"

# A host of Incus, which answers all requests.
mkdir -p /dev/incus
python3 /opt/lab/incus.py /dev/incus/sock "$out/incus" &
await test -S /dev/incus/sock

# Three writers come and go.
echo "STATE=booted MESSAGE='first writer'" >"$fifo"
await stands booted
exec 3>|"$fifo"
printf 'STATE=starting MESSAGE=%q\n' "it's the second writer" >&3
exec 3>&-
exec 3>"$fifo"
echo '{"state":"ready","message":"third writer"}' >&3
reaches ready
await grep -q Ready "$out/incus"
await shows "$unit" "ready: third writer"

# What is printed while ingest is down waits; the next line starts another.
systemctl kill --signal=KILL "$unit"
gone() { ! active "$unit" active; }
await gone
echo 'KIND=ready MESSAGE="fourth, to nobody"' >&3
echo 'nonsense' >&3
exec 3>&-
await grep -q fourth "$state/events.jsonl"
await test -s "$state/rejected.jsonl"

# A line that was refused is no failure of the unit. Its end is that of the run.
systemctl stop "$unit"
systemctl show --value -p Result "$unit" >"$out/result"
keep ended
echo 'STATE=booted MESSAGE=fifth' >"$fifo"
await stands booted
await mirrors PIKA_SEQ=6
journalctl -o json --all SYSLOG_IDENTIFIER=pika-cloud-lifecycle | jq -r 'select(.MESSAGE_ID) | .PIKA_KIND // .PIKA_OUTCOME // "reject"' >"$out/mirror"
