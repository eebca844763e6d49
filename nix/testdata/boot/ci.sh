#!/usr/bin/env bash
# ci.sh runs jobs in the CI image, one after the other.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
unit=pika-cloud-ci.service
# shellcheck disable=SC2016 # the name of the file is hostile
request='/var/lib/pika-cloud/re quest %n $X "\x41" 100%.json'

# ask NAME REQUEST runs a job and keeps its artifacts.
ask() {
  mkdir -p /var/lib/pika-cloud
  echo "$2" >"$request"
  systemctl start "$unit" || :
  systemctl show --value -p ExecMainStatus "$unit" >"$out/$1.exit"
  keep "$1"
}

# job COMMAND [TIMEOUT] [AS_ROOT] prints a request.
job() {
  jq -n --arg command "$1" --argjson timeout "${2-60}" --argjson root "${3-false}" \
    '{schema_version: 2, command: $command, timeout_secs: $timeout, run_as_root: $root}'
}

# Without a request no job runs at boot.
considered() { (($(systemctl show --value -p ConditionTimestampMonotonic "$unit") > 0)); }
await considered
[[ $(systemctl show --value -p ConditionResult "$unit") == no ]]

ask passes "$(job 'id; echo done >/run/pika-cloud/artifacts/report.txt')"
reaches completed
await mirrors PIKA_OUTCOME=completed
ask exits-7 "$(job 'id -un; exit 7' 60 true)"
ask times-out "$(job 'sleep infinity' 1)"
ask bad-request '{"schema_version": 9}'
ask hostile "$(job 'bash /opt/lab/hostile.sh')"
pgrep -u ci >"$out/left" || :
ask after "$(job 'echo harmless')"
stat -c '%A %U %n' "$state" "$state"/* >"$out/modes"

# The power-off ends the last job.
job 'echo up; sleep infinity' >"$request"
systemctl start --no-block "$unit"
await in_state starting
await grep -q up "$state/logs/guest.log"
