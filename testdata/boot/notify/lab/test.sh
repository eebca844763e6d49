#!/usr/bin/env bash
# Starts the units, and records their states in systemd as lines of NAME=VALUE in
# /opt/lab/out.
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
is() { [[ $(show "$1" ActiveState) =~ ^($2)$ ]]; }
units() { systemctl list-units --plain --no-legend --state="$1" 'quick@*' | wc -l; }
settled() { [[ $(units activating) == 0 && $(units active,failed) == 20 ]]; }

# These take seconds, so they run at the same time as the rest.
systemctl start --no-block alive hung own@4 own@0 ready@4.0 ready@0.0

python3 /opt/lab/instance.py >>/opt/lab/requests &
until_ 20 test -S /dev/incus/sock
for value in auto never systemd incus systemd,incus; do
	unit=$(systemd-escape --template=row@.service "$value")
	systemctl start "$unit"
	until_ 20 grep -q '"ready"' /run/row/status.json
	record "row_$value" "$(show "$unit" ActiveState) $(show "$unit" StatusText)"
	touch "/run/end-$value"
	until_ 20 is "$unit" 'failed|inactive'
	printf '%s\n' "$value" >>/opt/lab/requests
	rm -r /run/row
done
kill %1
rm /dev/incus/sock

until_ 20 is ready@4.0 active
record ready "$(show ready@4.0 StatusText)"
until_ 20 is hung active
kill -STOP "$(show hung MainPID)"

systemctl start --no-block quick@{1..20}
until_ 40 settled
record quick "$(units active)"

for unit in alive own@4 own@0 ready@4.0 ready@0.0 hung; do
	until_ 20 is "$unit" 'failed|inactive'
	record "$unit" "$(show "$unit" Result)"
done
journalctl --no-pager >/opt/lab/journal
record end reached
