package main

const usage = `Usage:
  pika-cloud-lifecycle run    [FLAGS] -- COMMAND
                                         run a command, tell how it ended
  pika-cloud-lifecycle ingest [FLAGS]    read directives, one a line
  pika-cloud-lifecycle rebuild [FLAGS]   rebuild the files from a journal
  pika-cloud-lifecycle wait   [FLAGS]    wait for a state
  pika-cloud-lifecycle status [FLAGS]    replace status.json
  pika-cloud-lifecycle event  [FLAGS]    append to events.jsonl
  pika-cloud-lifecycle result [FLAGS]    replace result.json
  pika-cloud-lifecycle show   [FLAGS] [DIR | FILE...]    what happened, as text
  pika-cloud-lifecycle plot   [FLAGS] [DIR | FILE...]    and as a picture
  pika-cloud-lifecycle verify [FLAGS]    check the files, and repair them
  pika-cloud-lifecycle schema [NAME]     print the JSON Schemas
  pika-cloud-lifecycle --version

A guest reports to its host through three files in /run/pika-cloud, or
$PIKA_LIFECYCLE_DIR: status.json, events.jsonl (history) and result.json.

COMMAND --help shows the flags of a command, and its exit codes.

Examples:
  echo '{"state":"ready","message":"listening"}' | pika-cloud-lifecycle ingest
  exec 3> >(pika-cloud-lifecycle ingest --require-result)
`

const runUsage = `Usage: pika-cloud-lifecycle run [FLAGS] -- COMMAND [ARG...]

Run a command and tell how it ended: starting before it is started, completed
or failed, with its exit code, when it has ended. Meanwhile it may print
directives to the descriptor named in $PIKA_LIFECYCLE_FD. A completed or failed
of its own lends the verdict message and details, never outcome or exit code.

  --state-dir DIR      where the files are (/run/pika-cloud,
                       or $PIKA_LIFECYCLE_DIR)
  --message TEXT       of starting (starting COMMAND)
  --timeout DURATION   send SIGTERM when it takes longer; 0s = never (0s)
  --kill-after DURATION
                       and SIGKILL so much later (10s)
  --notify WORDS       tell auto (default) = who listens, never, systemd,incus

Exit status: that of the command; 128+N if signal N ended it, 124 if it took
too long, 127 if there is no such command, 126 if it cannot be run; 2 wrong
usage. What could not be written is said, and changes nothing.

Examples:
  pika-cloud-lifecycle run --timeout 10m -- make test
  pika-cloud-lifecycle run -- sh -c 'serve & probe &&
    echo STATE=ready >&"$PIKA_LIFECYCLE_FD"; wait $!'
`

const ingestUsage = `Usage: pika-cloud-lifecycle ingest [FLAGS]
Read directives, JSON or KEY=value, one a line, and write the files.
  --state-dir DIR      where they are (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)
  --fd N               read from descriptor N (0, or what ListenFIFO= passes)
  --fifo PATH          read from a FIFO, which is made if it is missing
  --ack-fd N           after each commit write "LINE SEQ REJECTED" to N
  --dry-run            check the input and print what would be written
  --transitions WORD   if a state does not follow: warn (default), enforce, off
  --require-result     if the stream ends without a verdict, give one: failed
  --exit-on-result     end after the verdict, without waiting for the input to
  --grace DURATION     how long to read on after SIGTERM or SIGHUP (5s)
  --write-timeout DURATION  how long input waits for a disk that fails (30s)
  --max-line BYTES     reject longer lines (1048576)
  --max-events BYTES   rotate events.jsonl beyond it; 0 = never (67108864)
  --max-rejected BYTES limit of rejected.jsonl (8388608)
  --notify WORDS       tell auto (default) = who listens, never, systemd,incus
  --journal WORD       mirror to the journal: never (default), auto, always
Exit status: 0 all accepted; 1 not all written; 2 wrong usage; 3 lines rejected.
Examples:
  printf 'STATE=ready MESSAGE=%q\n' "$text" | pika-cloud-lifecycle ingest
  exec 3> >(pika-cloud-lifecycle ingest --require-result); pid=$!
`

const rebuildUsage = `Usage: journalctl -o json --all ... | pika-cloud-lifecycle rebuild [FLAGS]

Rebuild the files of a guest from its entries in a journal. Events keep their
seqs, entries that come again add nothing, and gaps are reported.

  --state-dir DIR      where the copy is (/run/pika-cloud,
                       or $PIKA_LIFECYCLE_DIR)
  --trust-uid UID      trust entries of this user too, not only root's
  --fd N               read from descriptor N (0)
  --ack-fd N           after each commit write "LINE SEQ REJECTED" to N
  --grace DURATION     how long to read on after SIGTERM or SIGHUP (5s)
  --max-line BYTES     reject longer lines (16777216)
  --max-events BYTES   rotate events.jsonl beyond it; 0 = never (67108864)
  --max-rejected BYTES limit of rejected.jsonl (8388608)

Exit status: 0 all accepted; 1 not all written; 2 wrong usage; 3 lines rejected.

Examples:
  pika-cloud-lifecycle rebuild --state-dir copy < entries.json
  journalctl -o json --all SYSLOG_IDENTIFIER=pika-cloud-lifecycle |
    pika-cloud-lifecycle rebuild --state-dir copy
`

const waitUsage = `Usage: pika-cloud-lifecycle wait --for STATE[,STATE...] [FLAGS]

Wait until the guest is in one of the states, and print the status. A state on
the way to ready counts as reached where a later one is. completed and failed
are reached once their result stands too.

  --for STATES         requested, provisioning, booted, starting, ready,
                       completed, failed, unreachable, stopped, destroyed
  --timeout DURATION   give up after it; 0s = look once (never)
  --boot WORD          whose status counts: current (default) = of this boot;
                       any, as for files that were copied
  --format WORD        text (default), json
  --state-dir DIR      (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 reached; 1 failed or completed instead; 2 wrong usage; 3 the
files cannot be read; 124 time is over.

Examples:
  pika-cloud-lifecycle wait --for ready --timeout 2m
  pika-cloud-lifecycle wait --for completed,failed --format json
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
  --journal WORD       mirror to the journal: never (default), auto, always
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
  --journal WORD       mirror to the journal: never (default), auto, always
  --state-dir DIR      (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 written and durable; 1 not written; 2 wrong usage.

Examples:
  pika-cloud-lifecycle result --status completed --message 'tests passed'
  pika-cloud-lifecycle result --status failed --exit-code 7 \
    --message 'tests failed'
`

const showUsage = `Usage: pika-cloud-lifecycle show [FLAGS] [DIR | FILE...]

Show where the guest stands, and then what happened to it: for each event its
time, the time since the one before it and since boot, message and details.
FILEs are a status, a result and logs, copied from anywhere and under any name.
Nothing is changed. A torn last line is shown as one.

  --state-dir DIR      where the files are, if none are named
                       (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)
  --format WORD        text (default), or json: one object a line
  --follow             go on with what is written from now on
  --utc                times in UTC, not in the local time zone

Exit status: 0 shown; 1 something could not be read; 2 wrong usage.

Examples:
  pika-cloud-lifecycle show --follow
  pika-cloud-lifecycle show --utc guest7/status.json guest7/events.jsonl | less
`

const plotUsage = `Usage: pika-cloud-lifecycle plot [FLAGS] [DIR | FILE...]

Draw what happened to the guest: one SVG on standard output that needs nothing
else, with a bar for each state over the time since boot, boots one under
another, failures marked, and details where the pointer rests.

  --state-dir DIR      where the files are, if none are named
                       (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)

Exit status: 0 drawn; 1 something could not be read; 2 wrong usage.

Examples:
  pika-cloud-lifecycle plot > boot.svg
  pika-cloud-lifecycle plot guest7/events.jsonl > guest7.svg
`

const verifyUsage = `Usage: pika-cloud-lifecycle verify [FLAGS]

Check a state directory: the schema of every file and line, the order of seq and
of boots, the seq file, incomplete lines, whether status and result match their
events and each other, temporary files, modes and owners.

  --state-dir DIR      the directory (/run/pika-cloud, or $PIKA_LIFECYCLE_DIR)
  --format WORD        text (default) or json
  --repair             repair what can be repaired, and keep what is removed
                       from a file in another file beside it

Exit status: 0 valid; 1 invalid, or the repair failed; 2 wrong usage; 3 the
directory cannot be read.

Examples:
  pika-cloud-lifecycle verify
  pika-cloud-lifecycle verify --repair --state-dir /srv/guest7
`

const schemaUsage = `Usage: pika-cloud-lifecycle schema [NAME]

Print the JSON Schema of an artifact, or of a directive: directive, events,
rejected, result or status. Without NAME: all of them, as one object.

Exit status: 0 printed; 2 wrong usage.

Examples:
  pika-cloud-lifecycle schema events
  pika-cloud-lifecycle schema | jq 'keys'
`
