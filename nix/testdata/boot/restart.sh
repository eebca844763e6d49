#!/usr/bin/env bash
# restart.sh restarts, stops and replaces the units of the FIFO while programs print to it. Each
# row writes a file with the exit code of systemctl, and whether the directives have arrived.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
set +e
state=/var/lib/pika-cloud
socket=pika-cloud-lifecycle.socket
unit=pika-cloud-lifecycle.service
fifo=$state/lifecycle.fifo

mkdir -p "$out/rows"
row() { exec >"$out/rows/$1" 2>&1; }

# print MESSAGE prints a directive to the path, as any program does.
print() {
	# shellcheck disable=SC2016 # the inner shell expands it
	timeout 60 sh -c 'echo "STATE=ready MESSAGE=$1" >"$0"' "$fifo" "$1" || echo "$1: exit code $?"
}

# arrives MESSAGE... waits for events with these messages, and prints their order.
arrives() {
	local try
	for ((try = 0; try < 600; try++)); do
		if grep -qs "\"${*: -1}\"" "$state/events.jsonl"; then break; fi
		sleep 0.1
	done
	jq -r .message "$state/events.jsonl" | grep -xE "$(IFS='|' && echo "$*")"
}

# restart prints the exit code of a restart, and what the FIFO is after it.
restart() {
	systemctl restart "$socket"
	echo "exit code $?, $(systemctl is-active "$socket" "$unit" | xargs), $(stat -c '%A %U %G' "$fifo")"
}

row early
arrives early # early.service has printed it before the socket unit started

row restart
exec 3>"$fifo"
restart
print restarted
echo 'STATE=ready MESSAGE=open' >&3
arrives restarted open

row mode
mkdir -p "/etc/systemd/system/$socket.d"
printf '[Socket]\nSocketMode=0660\nSocketGroup=reporter\n' >"/etc/systemd/system/$socket.d/mode.conf"
systemctl daemon-reload
restart
print mode
echo 'STATE=ready MESSAGE=open-mode' >&3
arrives mode open-mode
rm -r "/etc/systemd/system/$socket.d"
systemctl daemon-reload
restart
exec 3>&-

row upgrade
systemctl stop "$socket"
echo "exit code $?"
print stopped
systemctl daemon-reload
systemctl start "$socket"
echo "exit code $?"
print started
systemctl daemon-reexec
print reexec
arrives stopped started reexec

row killed
systemctl kill --signal=KILL "$unit"
gone() { ! active "$unit" active; }
await gone
print killed
arrives killed

row removed
rm "$fifo"
print 'lost'
restart
print removed
arrives removed
echo "$(stat -c %F "$fifo.unread") $(cat "$fifo.unread")"
reported() { journalctl -o cat --grep "$1" >/dev/null; }
await reported 'was not a FIFO, so its lines were not read'
await reported 'FIFO of the socket unit was replaced by another one'

row link
echo untouched >"$out/target"
chmod 0600 "$out/target"
ln -sf "$out/target" "$fifo"
restart
stat -c '%A %U %G' "$out/target"
print linked
arrives linked
cat "$out/target"
ln -sf /nowhere "$fifo"
restart
mkfifo "$out/pipe"
ln -sf "$out/pipe" "$fifo"
restart
(cd "$state" && echo *.unread*)

row run
[[ ! -e $state/result.json ]] && in_state ready && echo goes on

row stopped
systemctl stop --quiet "$socket" "$unit"
echo "exit code $?"
print waits &
sleep 0.5
jobs -r | grep -c print
systemctl start "$socket"
echo "exit code $?"
wait
arrives waits

# What follows starts without a run.
systemctl stop --quiet "$unit"
find "$state" -type f -delete
find "$state" -type l -delete
