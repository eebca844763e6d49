# lab.sh has the functions of the scripts that test a booted system.
# shellcheck shell=bash
set -euo pipefail

out=/opt/lab/out
state=/run/pika-cloud

# await COMMAND [ARG...] waits until the command succeeds, for at most a minute, which
# is longer than the busiest machine needs.
await() {
	local try
	for ((try = 0; try < 600; try++)); do
		if "$@" 2>/dev/null; then return 0; fi
		sleep 0.1
	done
	echo "did not succeed within a minute: $*"
	return 1
}

# in_state STATE checks the state in status.json.
in_state() { [[ $(jq -r .state "$state/status.json" 2>/dev/null) == "$1" ]]; }

# reaches STATE waits until the guest is in that state in this boot.
reaches() { pika-cloud-lifecycle wait --state-dir "$state" --for "$1" --timeout 60s; }

active() { [[ $(systemctl show --value -p ActiveState "$1") == "$2" ]]; }

# shows UNIT TEXT checks the status text of the unit in systemd.
shows() { [[ $(systemctl show --value -p StatusText "$1") == "$2" ]]; }

# mirrors FIELD checks that the journal has an entry with the field.
mirrors() { [[ -n $(journalctl -o cat SYSLOG_IDENTIFIER=pika-cloud-lifecycle "$1") ]]; }

# keep NAME copies the artifacts.
keep() { cp -r "$state" "$out/$1"; }
