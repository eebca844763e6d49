#!/usr/bin/env bash
# Starts and ends the units, and tells in /opt/lab/out what systemd made of them:
# lines of NAME=VALUE. The artifacts of each are copied beside it.
exec >/opt/lab/log 2>&1
set -x

tell() { printf '%s=%s\n' "$1" "$2" >>/opt/lab/out; }
show() { systemctl show --value -p "$2" "$1"; }
until_() { # until_ SECONDS COMMAND...: waits, for so long at the most
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return
		sleep 0.02
	done
}
state() { grep -q "\"state\": \"$2\"" "/run/$1/status.json" 2>/dev/null; }
is() { [[ $(show "$1" ActiveState) =~ ^($2)$ ]]; }

# Active exactly at ready.
systemctl start --no-block notify
until_ 20 state notify starting
tell notify_before "$(show notify ActiveState)"
touch /run/go
until_ 20 systemctl is-active notify
tell notify_ready "$(show notify ActiveState) $(state notify ready && echo ready) $(show notify StatusText)"
touch /run/end
until_ 20 is notify 'failed|inactive'
tell notify_after "$(show notify ActiveState) $(show notify ExecMainStatus) $(show notify StatusText)"

systemctl start hardened
until_ 20 is hardened 'failed|inactive'
tell hardened "$(show hardened Result) $(show hardened ExecMainStatus)"

systemctl start stream
tell stream "$(show stream ActiveState) $(show stream StatusText)"
touch /run/stream-end
until_ 20 is stream 'failed|inactive'

# Writers come and go; the socket starts the service with the first.
systemctl start fifo.socket
tell fifo_mode "$(stat -c %a /run/lifecycle.fifo)"
(echo STATE=starting >/run/lifecycle.fifo)
until_ 20 state fifo starting
(echo STATE=ready >/run/lifecycle.fifo)
until_ 20 state fifo ready
(printf 'STATE=failed MESSAGE=%q\n' 'the first' >/run/lifecycle.fifo)
until_ 20 state fifo failed
(printf 'STATE=starting\nSTATE=ready\n' >/run/lifecycle.fifo)
until_ 20 state fifo ready
systemctl stop fifo.socket fifo
tell fifo "$(show fifo Result) $(show fifo ExecMainStatus)"

systemctl start killed
until_ 20 state killed ready
systemctl kill --signal=KILL killed
until_ 20 is killed 'failed|inactive'
tell killed "$(show killed Result)"

# Without KillMode=mixed the command hears SIGTERM twice.
systemctl start stop
until_ 20 state stop ready
systemctl stop stop
tell stop "$(show stop Result) $(show stop ExecMainStatus)"

python3 /opt/lab/instance.py >/opt/lab/told &
until_ 20 test -S /dev/incus/sock
systemctl start incus
until_ 20 is incus 'failed|inactive'
kill %1

for name in notify hardened stream fifo killed stop incus; do
	cp -rL "/run/$name" "/opt/lab/$name"
done
journalctl --no-pager >/opt/lab/journal
tell end reached
