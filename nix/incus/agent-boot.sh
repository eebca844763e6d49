#!/usr/bin/env bash
# agent-boot.sh boots a managed agent: it starts the service of the agent, waits
# until it is healthy, and reports each state to the host.
#
#   usage: agent-boot.sh [--state-dir DIR] SERVICE [ARG...]
#
# Environment, with defaults:
#   AGENT_PROBE          command line that exits with 0 once the service is healthy (required)
#   AGENT_PUBLISH        command line that publishes the key package (none)
#   AGENT_PROBES         maximum number of probes (60)
#   AGENT_PROBE_SECONDS  seconds that one probe, or publishing, may take (5)
#   AGENT_PAUSE          seconds between two probes (1)
#   AGENT_STOP_SECONDS   whole seconds that the service may take to stop (10)
#   INGEST_FLAGS         further flags of ingest, separated by blanks (none)
#   PIKA_LIFECYCLE_DIR   the state directory (/run/pika-cloud)
#
# Exit status: 0 if the service stops after SIGTERM, SIGINT or SIGHUP; 1 if the
# service never becomes healthy, or exits with 0 before it is ready; 2 for wrong
# usage; otherwise the exit code of the service.
set -euo pipefail

state_dir=${PIKA_LIFECYCLE_DIR:-/run/pika-cloud}
if [[ ${1-} == --state-dir && $# -ge 2 ]]; then
  state_dir=$2
  shift 2
fi
if [[ $# -eq 0 || $1 == -* || -z ${AGENT_PROBE-} ]]; then
  echo 'usage: AGENT_PROBE=COMMAND agent-boot.sh [--state-dir DIR] SERVICE [ARG...]' >&2
  exit 2
fi
probes=${AGENT_PROBES:-60}
step_seconds=${AGENT_PROBE_SECONDS:-5}
pause=${AGENT_PAUSE:-1}
stop_seconds=${AGENT_STOP_SECONDS:-10}
read -ra ingest_flags <<<"${INGEST_FLAGS-}"

guest='DETAILS.agent_kind=openclaw DETAILS.backend_mode=native DETAILS.service_kind=openclaw_gateway'
health='DETAILS.service_probe_satisfied:=false'
service=''
stopping=''
killer=''
ingest_ended=''
output=''
code=0

note() { printf 'agent-boot: %s\n' "$1" >&2 || true; }

# report STATE MESSAGE [WORD...] prints one directive. %q quotes any bytes as one
# word on one line.
report() {
  local state=$1 message=$2
  shift 2
  if printf 'STATE=%s MESSAGE=%q %s %s %s\n' "$state" "$message" "$guest" "$health" "$*" >&3 2>/dev/null; then
    return 0
  fi
  if [[ -z $ingest_ended ]]; then
    ingest_ended=yes
    note 'ingest has ended; the host does not see the rest of this run'
  fi
}

# serve COMMAND [ARG...] runs the service, and prints its process ID and, when it
# ends, its exit code. Only the service reacts to a signal to the whole unit. The
# service does not get NOTIFY_SOCKET, because this script decides when the guest is
# ready. exec restores the signals that bash ignores in its children.
serve() {
  local code=0
  exec 3>&- # otherwise the service would keep the stream open
  trap : TERM INT HUP
  (
    unset NOTIFY_SOCKET
    echo "$BASHPID"
    exec "$@" <&6 >&7 6<&- 7>&-
  ) || code=$?
  echo "$code"
}

# start_service COMMAND [ARG...] starts the service. The exit code is read from a
# pipe. With wait it could be lost: if the child ends at the moment at which a
# trapped signal ends a wait, bash loses the code, and a second wait never returns.
start_service() {
  exec 6<&0 7>&1
  coproc SERVICE { serve "$@"; }
  exec 5<&"${SERVICE[0]}" 6<&- 7>&-
  read_service service
  if [[ -n $stopping ]]; then stop_service; fi # the signal arrived before the service started
}

# read_service NAME reads a line from serve into a variable, which is empty if serve
# was killed. It repeats a read that a trapped signal has ended. The time limit is for a
# signal that arrives just before bash waits: bash handles it only after the read.
read_service() {
  local status=0
  until read -r -t 5 "$1" <&5; do
    status=$?
    if ((status <= 128)); then return 0; fi
  done
}

service_runs() { [[ -n $service ]] && kill -0 "$service" 2>/dev/null; }

stop_service() {
  if ! service_runs; then return 0; fi
  kill -TERM "$service" 2>/dev/null || true
  kill_later 3>&- &
  killer=$!
}

kill_later() {
  local tick
  for ((tick = 0; tick < stop_seconds * 10; tick++)); do
    sleep 0.1
    if ! service_runs; then return 0; fi
  done
  kill -KILL "$service" 2>/dev/null || true
}

# attempt COMMAND runs a command line with a time limit, and sets $output to at most
# 2,000 characters of its output: ingest rejects a line of more than 1 MiB.
attempt() {
  local status=0
  output=$(timeout --kill-after=1 "$step_seconds" bash -c "$1" 2>&1 3>&- </dev/null) || status=$?
  output=${output:0:2000}
  return "$status"
}

# await_health probes until the service is healthy. It counts probes instead of
# measuring time, because a guest may step its clock while it boots.
await_health() {
  local probe
  for ((probe = 0; probe < probes; probe++)); do
    if [[ -n $stopping ]] || ! service_runs; then return 1; fi
    if attempt "$AGENT_PROBE"; then return 0; fi
    sleep "$pause" 3>&-
  done
  give_up 'OpenClaw is not healthy' probe_failed
}

publish() {
  if attempt "${AGENT_PUBLISH:-:}"; then return 0; fi
  give_up 'publishing the keypackage failed' publish_failed
}

# give_up MESSAGE REASON reports failed and stops a service that still runs.
give_up() {
  local message=$1 why
  if [[ -n $stopping ]] || ! service_runs; then return 1; fi
  printf -v why 'DETAILS.reason=%s DETAILS.last_output=%q' "$2" "$output"
  report failed "$message" "$why"
  stop_service
  await_service
  finish 1
}

# await_service sets $code to the exit code of the service.
await_service() {
  read_service code
  if [[ -z $service && -n $stopping ]]; then code=0; fi # it was stopped before it started
  if [[ -n $killer ]]; then kill "$killer" 2>/dev/null || true; fi
}

# become_ready waits for the service and reports ready, or returns 1.
become_ready() {
  await_health || return 1
  health='DETAILS.service_probe_satisfied:=true DETAILS.probe=openclaw_gateway_health'
  report starting 'OpenClaw health ready; publishing keypackage'
  publish || return 1
  report ready 'managed OpenClaw guest ready'
}

# finish CODE ends the stream, waits until ingest has written the artifacts, and exits.
finish() {
  local ingest_code=0
  trap '' TERM INT HUP # the end is reported, and nothing is left to stop
  exec 3>&-
  wait "$ingest_pid" || ingest_code=$?
  if ((ingest_code != 0)); then note "ingest exited with $ingest_code"; fi
  exit "$1"
}

# report_end reports how the service ended. A script that ends with a plain wait
# never gets here, because set -e ends it at the wait.
report_end() {
  local exited=("openclaw_gateway_exited" "EXIT_CODE=$code")
  if [[ -z $code ]]; then
    note 'the exit code of the service is not known'
    finish 1
  fi
  # 128 + SIGHUP, SIGINT or SIGTERM: the signal that was sent ended the service.
  if [[ -n $stopping && " 0 129 130 143 " == *" $code "* ]]; then
    report stopped 'managed OpenClaw guest stopped'
    finish 0
  elif [[ -n $stopping ]]; then
    report failed "${exited[@]}" DETAILS.reason=stop_failed
  elif [[ -z $ready ]]; then
    report failed "${exited[@]}" DETAILS.reason=exited_before_ready
    finish "$((code ? code : 1))"
  elif ((code == 0)); then
    report completed "${exited[@]}"
  else
    report failed "${exited[@]}"
  fi
  finish "$code"
}

# When ingest has ended, a print to its pipe must fail and not end this script.
# This is a handler because the service would inherit a SIGPIPE that is ignored.
trap : PIPE
trap 'trap "" TERM INT HUP; stopping=yes; stop_service' TERM INT HUP

# systemd may signal the whole unit at the same time. ingest must then continue to
# read for longer than the service may take to stop.
exec 3> >(exec pika-cloud-lifecycle ingest "${ingest_flags[@]}" --state-dir "$state_dir" \
  --require-result --grace "$((stop_seconds + 5))s")
ingest_pid=$!

ready=''
report booted 'managed OpenClaw guest booted'
if [[ -z $stopping ]]; then
  start_service "$@"
  report starting 'waiting for OpenClaw health'
  if become_ready; then ready=yes; fi
  await_service
fi
report_end
