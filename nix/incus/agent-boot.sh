#!/usr/bin/env bash
# agent-boot.sh boots a managed agent: it starts the agent's service, waits
# until it is healthy, and tells the host what becomes of it.
#
#   usage: agent-boot.sh [--state-dir DIR] SERVICE [ARG...]
#
# From the environment:
#   AGENT_PROBE          command line that succeeds once the service is healthy (required)
#   AGENT_PUBLISH        command line that publishes the key package (none)
#   AGENT_PROBES         how often to probe (60)
#   AGENT_PROBE_SECONDS  how long one probe, or publishing, may take (5)
#   AGENT_PAUSE          seconds between two probes (1)
#   AGENT_STOP_SECONDS   whole seconds that the service may take to stop (10)
#   INGEST_FLAGS         further flags of ingest, parted by blanks (none)
#   PIKA_LIFECYCLE_DIR   where the artifacts are (/run/pika-cloud)
#
# Its exit code is the service's; 0 if it was asked to stop (SIGTERM, SIGINT,
# SIGHUP) and the service did; 1 if the service never became healthy, or exited
# with 0 before it was; 2 for wrong usage.
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
ingest_gone=''
output=''
code=0

note() { printf 'agent-boot: %s\n' "$1" >&2 || true; }

# report STATE MESSAGE [WORD...] prints one directive. %q quotes any text so
# that it stays one word of one line, whatever bytes are in it.
report() {
  local state=$1 message=$2
  shift 2
  if printf 'STATE=%s MESSAGE=%q %s %s %s\n' "$state" "$message" "$guest" "$health" "$*" >&3 2>/dev/null; then
    return 0
  fi
  if [[ -z $ingest_gone ]]; then
    ingest_gone=yes
    note 'ingest is gone: the host learns no more of this run'
  fi
}

# serve COMMAND [ARG...] runs the service and prints its pid and, at its end, its
# exit code. A signal to the whole unit is for the service alone to obey. That it
# is ready is not the service's to say: it has no socket for it. exec gives back
# the signals that a shell ignores in what it starts behind its back.
serve() {
  local code=0
  exec 3>&- # which would keep the stream open for as long as the service lives
  trap : TERM INT HUP
  (
    unset NOTIFY_SOCKET
    echo "$BASHPID"
    exec "$@" <&6 >&7 6<&- 7>&-
  ) || code=$?
  echo "$code"
}

# start_service COMMAND [ARG...] starts it. Its exit code is read, not waited for:
# where a trapped signal ends a wait at the moment at which the child does, bash
# loses the code, and a second wait never ends.
start_service() {
  exec 6<&0 7>&1
  coproc SERVICE { serve "$@"; }
  exec 5<&"${SERVICE[0]}" 6<&- 7>&-
  hear service
  if [[ -n $stopping ]]; then stop_service; fi # the signal found no service yet
}

# hear NAME reads what serve prints into a variable, which is empty if that was
# killed. A trapped signal may end a read.
hear() {
  local status=0
  until read -r "$1" <&5; do
    status=$?
    if ((status <= 128)); then return 0; fi
  done
}

lives() { [[ -n $service ]] && kill -0 "$service" 2>/dev/null; }

stop_service() {
  if ! lives; then return 0; fi
  kill -TERM "$service" 2>/dev/null || true
  kill_later 3>&- &
  killer=$!
}

kill_later() {
  local tick
  for ((tick = 0; tick < stop_seconds * 10; tick++)); do
    sleep 0.1
    if ! lives; then return 0; fi
  done
  kill -KILL "$service" 2>/dev/null || true
}

# attempt COMMAND runs a command line for a bounded time and leaves what it
# said in $output: 2,000 characters at most, for ingest takes 1 MiB a line.
attempt() {
  local status=0
  output=$(timeout --kill-after=1 "$step_seconds" bash -c "$1" 2>&1 3>&- </dev/null) || status=$?
  output=${output:0:2000}
  return "$status"
}

# await_health probes until the service is healthy. Probes are counted, not
# timed, for a guest steps its clock while it boots.
await_health() {
  local probe
  for ((probe = 0; probe < probes; probe++)); do
    if [[ -n $stopping ]] || ! lives; then return 1; fi
    if attempt "$AGENT_PROBE"; then return 0; fi
    sleep "$pause" 3>&-
  done
  give_up 'OpenClaw is not healthy' probe_failed
}

publish() {
  if attempt "${AGENT_PUBLISH:-:}"; then return 0; fi
  give_up 'publishing the keypackage failed' publish_failed
}

# give_up MESSAGE REASON stops a service that lives but is of no use.
give_up() {
  local message=$1 why
  if [[ -n $stopping ]] || ! lives; then return 1; fi
  printf -v why 'DETAILS.reason=%s DETAILS.last_output=%q' "$2" "$output"
  report failed "$message" "$why"
  stop_service
  await_service
  leave 1
}

# await_service leaves the service's own exit code in $code.
await_service() {
  hear code
  if [[ -z $service && -n $stopping ]]; then code=0; fi # the signal came before it was started
  if [[ -n $killer ]]; then kill "$killer" 2>/dev/null || true; fi
}

# come_up takes the service to ready, or fails.
come_up() {
  await_health || return 1
  health='DETAILS.service_probe_satisfied:=true DETAILS.probe=openclaw_gateway_health'
  report starting 'OpenClaw health ready; publishing keypackage'
  publish || return 1
  report ready 'managed OpenClaw guest ready'
}

# leave CODE ends the stream and waits until its artifacts are written.
leave() {
  local ingest_code=0
  trap '' TERM INT HUP # the verdict is given; nothing is left to stop
  exec 3>&-
  wait "$ingest_pid" || ingest_code=$?
  if ((ingest_code != 0)); then note "ingest exited with $ingest_code"; fi
  exit "$1"
}

# conclude reports how it ended. Where a wait is the last word of a script,
# set -e ends the script there and the verdict is never given.
conclude() {
  local exited=("openclaw_gateway_exited" "EXIT_CODE=$code")
  if [[ -z $code ]]; then
    note 'how the service ended is not known'
    leave 1
  fi
  # 128 + SIGHUP, SIGINT or SIGTERM: the service ended as it was asked to.
  if [[ -n $stopping && " 0 129 130 143 " == *" $code "* ]]; then
    report stopped 'managed OpenClaw guest stopped'
    leave 0
  elif [[ -n $stopping ]]; then
    report failed "${exited[@]}" DETAILS.reason=stop_failed
  elif [[ -z $ready ]]; then
    report failed "${exited[@]}" DETAILS.reason=exited_before_ready
    leave "$((code ? code : 1))"
  elif ((code == 0)); then
    report completed "${exited[@]}"
  else
    report failed "${exited[@]}"
  fi
  leave "$code"
}

# A handler for SIGPIPE, and not '', which children would inherit: a print into
# the pipe of an ingest that is gone must fail, and neither end this script nor
# change what SIGPIPE means to the service.
trap : PIPE
trap 'trap "" TERM INT HUP; stopping=yes; stop_service' TERM INT HUP

# Where a whole unit is signalled at once, ingest must read on for longer than
# the service may take to stop.
exec 3> >(exec pika-cloud-lifecycle ingest "${ingest_flags[@]}" --state-dir "$state_dir" \
  --require-result --grace "$((stop_seconds + 5))s")
ingest_pid=$!

ready=''
report booted 'managed OpenClaw guest booted'
if [[ -z $stopping ]]; then
  start_service "$@"
  report starting 'waiting for OpenClaw health'
  if come_up; then ready=yes; fi
  await_service
fi
conclude
