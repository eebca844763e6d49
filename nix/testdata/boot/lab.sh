# lab.sh is what the scripts that test a booted system have in common.
# shellcheck shell=bash
set -euo pipefail

out=/opt/lab/out
state=/run/pika-cloud

# await COMMAND [ARG...] waits until it succeeds, for longer than the busiest
# machine takes.
await() {
	local try
	for ((try = 0; try < 600; try++)); do
		if "$@" 2>/dev/null; then return 0; fi
		sleep 0.1
	done
	echo "not within a minute: $*"
	return 1
}

# stands STATE: the status says so.
stands() { [[ $(jq -r .state "$state/status.json" 2>/dev/null) == "$1" ]]; }

# reaches STATE: a plain shell sees the guest in that state, in this boot.
reaches() { pika-cloud-lifecycle wait --state-dir "$state" --for "$1" --timeout 60s; }

active() { [[ $(systemctl show --value -p ActiveState "$1") == "$2" ]]; }

# shows UNIT TEXT: the text is what systemd was told of the unit's state.
shows() { [[ $(systemctl show --value -p StatusText "$1") == "$2" ]]; }

# mirrors FIELD: the journal has such an entry.
mirrors() { [[ -n $(journalctl -o cat SYSLOG_IDENTIFIER=pika-cloud-lifecycle "$1") ]]; }

# keep NAME keeps the artifacts as they are.
keep() { cp -r "$state" "$out/$1"; }
