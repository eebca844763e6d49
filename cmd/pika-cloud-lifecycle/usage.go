package main

const usage = `Usage:
  pika-cloud-lifecycle ingest [FLAGS]    read directives, one a line
  pika-cloud-lifecycle status [FLAGS]    replace status.json
  pika-cloud-lifecycle event  [FLAGS]    append to events.jsonl
  pika-cloud-lifecycle result [FLAGS]    replace result.json
  pika-cloud-lifecycle --version

A guest tells its host how it is doing through three files, by default in
/run/pika-cloud, or $PIKA_LIFECYCLE_DIR: status.json (now), events.jsonl
(history) and result.json (verdict).

COMMAND --help shows the flags of a command.

Exit status: 0 done; 1 something could not be written; 2 wrong usage, nothing
was touched; 3 ingest refused lines.

Examples:
  echo '{"state":"ready","message":"listening"}' | pika-cloud-lifecycle ingest
  exec 3> >(pika-cloud-lifecycle ingest --require-result)
`

const ingestUsage = `Usage: pika-cloud-lifecycle ingest [FLAGS]

Read directives, one a line, JSON or KEY=value, until the input ends, and write
status.json, events.jsonl and result.json. Refused lines are said on stderr and
kept in rejected.jsonl; the others are taken.

  --state-dir DIR      where the files are (/run/pika-cloud,
                       or $PIKA_LIFECYCLE_DIR)
  --fd N               read from descriptor N (0)
  --ack-fd N           after each commit write "LINE SEQ REJECTED" to N
  --transitions WORD   a state that does not follow the last one:
                       warn (default), enforce, off
  --require-result     if the stream ends without a verdict, give one: failed
  --exit-on-result     end after the verdict, without waiting for the input to
  --grace DURATION     how long to read on after SIGTERM or SIGHUP (5s)
  --write-timeout DURATION
                       how long input waits for a disk that fails (30s)
  --max-line BYTES     refuse longer lines (1048576)
  --max-events BYTES   rotate events.jsonl beyond it; 0 = never (67108864)
  --max-rejected BYTES limit of rejected.jsonl (8388608)
  --journal never      the journal mirror; this version has none

Exit status: 0 all settled and accepted; 1 something could not be written;
2 wrong usage; 3 lines were refused.

Examples:
  printf 'STATE=ready MESSAGE=%q\n' "$text" | pika-cloud-lifecycle ingest
  exec 3> >(pika-cloud-lifecycle ingest --require-result); pid=$!
`

const statusUsage = `Usage: pika-cloud-lifecycle status --state STATE --message TEXT [FLAGS]

Replace status.json.

  --state STATE        requested, provisioning, booted, starting, ready,
                       completed, failed, unreachable, stopped, destroyed
  --message TEXT       what to tell an operator
  --details-json JSON  any JSON value
  --status-path PATH   (DIR/status.json)
  --state-dir DIR      (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 written and durable; 1 not written; 2 wrong usage.

Examples:
  pika-cloud-lifecycle status --state ready --message 'listening on 8080'
  pika-cloud-lifecycle status --state starting --message up \
    --details-json '{"n":1}'
`

const eventUsage = `Usage: pika-cloud-lifecycle event --kind STATE --message TEXT [FLAGS]

Append one event to events.jsonl.

  --kind STATE         requested, provisioning, booted, starting, ready,
                       completed, failed, unreachable, stopped, destroyed
  --message TEXT       what to tell an operator
  --details-json JSON  any JSON value
  --events-path PATH   (DIR/events.jsonl)
  --seq-path PATH      (the events path and .seq)
  --state-dir DIR      (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 written and durable; 1 not written; 2 wrong usage.

Examples:
  pika-cloud-lifecycle event --kind booted --message 'guest booted'
  pika-cloud-lifecycle event --kind ready --message up \
    --details-json '{"port":8080}'
`

const resultUsage = `Usage: pika-cloud-lifecycle result --status OUTCOME --message TEXT [FLAGS]

Replace result.json.

  --status OUTCOME     completed or failed
  --exit-code N        the true exit code, if it is known; completed means 0
  --message TEXT       what to tell an operator
  --details-json JSON  any JSON value
  --result-path PATH   (DIR/result.json)
  --state-dir DIR      (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 written and durable; 1 not written; 2 wrong usage.

Examples:
  pika-cloud-lifecycle result --status completed --message 'tests passed'
  pika-cloud-lifecycle result --status failed --exit-code 7 \
    --message 'tests failed'
`
