#!/usr/bin/env bash
# Starts and stops the units, and records their states in systemd as lines of
# NAME=VALUE in /opt/lab/out. The artifacts of each unit are copied to /opt/lab.
exec >/opt/lab/log 2>&1
set -x

record() { printf '%s=%s\n' "$1" "$2" >>/opt/lab/out; }
show() { systemctl show --value -p "$2" "$1"; }
until_() { # until_ SECONDS COMMAND...: waits until the command succeeds
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return
		sleep 0.02
	done
}
state() { grep -q "\"state\": \"$2\"" "/run/$1/status.json" 2>/dev/null; }
is() { [[ $(show "$1" ActiveState) =~ ^($2)$ ]]; }

# The unit becomes active when the command reports ready, not before.
systemctl start --no-block notify
until_ 20 state notify starting
record notify_before "$(show notify ActiveState)"
touch /run/go
until_ 20 systemctl is-active notify
record notify_ready "$(show notify ActiveState) $(state notify ready && echo ready) $(show notify StatusText)"
touch /run/end
until_ 20 is notify 'failed|inactive'
record notify_after "$(show notify ActiveState) $(show notify ExecMainStatus) $(show notify StatusText)"

systemctl start hardened
until_ 20 is hardened 'failed|inactive'
record hardened "$(show hardened Result) $(show hardened ExecMainStatus)"

systemctl start stream
record stream "$(show stream ActiveState) $(show stream StatusText)"
touch /run/stream-end
until_ 20 is stream 'failed|inactive'

# Writers open and close the FIFO. The socket starts the service for the first.
systemctl start fifo.socket
record fifo_mode "$(stat -c %a /run/lifecycle.fifo)"
(echo STATE=starting >/run/lifecycle.fifo)
until_ 20 state fifo starting
(echo STATE=ready >/run/lifecycle.fifo)
until_ 20 state fifo ready
(printf 'STATE=failed MESSAGE=%q\n' 'the first' >/run/lifecycle.fifo)
until_ 20 state fifo failed
(printf 'STATE=starting\nSTATE=ready\n' >/run/lifecycle.fifo)
until_ 20 state fifo ready
systemctl stop fifo.socket fifo
record fifo "$(show fifo Result) $(show fifo ExecMainStatus)"

systemctl start killed
until_ 20 state killed ready
systemctl kill --signal=KILL killed
until_ 20 is killed 'failed|inactive'
record killed "$(show killed Result)"

# Without KillMode=mixed the command receives SIGTERM twice.
systemctl start stop
until_ 20 state stop ready
systemctl stop stop
record stop "$(show stop Result) $(show stop ExecMainStatus)"

for name in notify hardened stream fifo killed stop; do
	cp -rL "/run/$name" "/opt/lab/$name"
done
journalctl --no-pager >/opt/lab/journal
record end reached
