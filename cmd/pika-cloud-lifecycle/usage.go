package main

const usage = `Usage: pika-cloud-lifecycle COMMAND [FLAGS]

Report the state of a guest, such as a virtual machine or a container, to its
host. The report is three files in a directory, the state directory:

  status.json   the current state, such as starting, ready or failed
  events.jsonl  the history: one event per line
  result.json   how the run ended: completed or failed, with the exit code

A run is the work of the guest from its first state to its result. The states
are requested, provisioning, booted, starting, ready, completed, failed,
unreachable, stopped and destroyed.

Commands that write the files:
  run      run a command, and record when it starts and how it ends
  ingest   read lines such as STATE=ready, and record each of them
  send     send one such line to run or ingest, from any program
  status   replace status.json
  event    append one event to events.jsonl
  result   replace result.json
  rebuild  rebuild the files of a guest from the systemd journal

Commands that read the files:
  wait     wait until the guest is in a given state, such as ready
  show     print the current state and the history
  plot     draw the history as an SVG picture
  verify   check the files, and repair them
  schema   print the JSON Schemas of the files

Flags:
  --help     print this text; after a command, print the help of that command
  --version  print the version

Environment:
  PIKA_LIFECYCLE_DIR  the state directory, if the command has no --state-dir
                      (default /run/pika-cloud, which only root can write)

Exit status:
  0  the command succeeded
  1  a file could not be read or written, or is invalid
  2  the command line is wrong; nothing was changed
  Some commands have other exit codes; see the help of each command.

Examples:
  export PIKA_LIFECYCLE_DIR=$(mktemp -d)   # to try it without root
  pika-cloud-lifecycle run -- sh -c 'echo STATE=ready >&"$PIKA_LIFECYCLE_FD"'
  pika-cloud-lifecycle show
`

const runUsage = `Usage: pika-cloud-lifecycle run [FLAGS] -- COMMAND [ARG...]

Run a command, and record when it starts and how it ends. Before the command
starts, run records the state starting. When the command ends, run records the
result: completed if the exit code is 0, otherwise failed.

Flags:
  --ready HOW            also record ready when the command reports it. notify:
                         it sends READY=1 to $NOTIFY_SOCKET, as to systemd;
                         fd:N: it writes a line to descriptor N, as to s6
  --timeout DURATION     if the command runs longer, such as 10m, send SIGTERM
                         to it and to all processes that it has started
                         (default 0s, no limit)
  --state-dir DIR        directory of the files (default $PIKA_LIFECYCLE_DIR,
                         otherwise /run/pika-cloud)

Advanced:
  --kill-after DURATION  send SIGKILL to those that still run this long after
                         the SIGTERM of --timeout (default 10s)
  --fifo PATH            read what the command reports from a FIFO, which
                         programs without the descriptor can open; create it if
                         it does not exist, and remove it at the end
  --message TEXT         message of the state starting (default "starting" and
                         the name of the command)
  --notify LIST          also notify systemd and Incus of each state: auto (each
                         one that is present), never, systemd, incus, or
                         systemd,incus (default auto)
  --journal WORD         also send events, results and rejected lines to the
                         systemd journal: never, auto (if there is a journal),
                         or always (warn if there is none) (default never)
  --tail N               if the run fails, add the last N lines (1 to 100, at
                         most 2K in all) that the command has printed to
                         standard error to the result; they may contain secrets.
                         Standard error of the command is then a pipe, not a
                         terminal
  --no-argv              record the name of the program, but not its arguments

While the command runs, it can report more states: it writes lines such as
STATE=ready to the descriptor in $PIKA_LIFECYCLE_FD, or calls
pika-cloud-lifecycle send. If it reports completed or failed itself, run keeps
its message and details. The outcome and the exit code always come from the
process.

Environment:
  PIKA_LIFECYCLE_DIR     state directory, if --state-dir is not given
  PIKA_LIFECYCLE_FD      set for the command: number of a descriptor, 3 to 9
  PIKA_LIFECYCLE_STREAM  set for the command: device and inode of the descriptor
  PIKA_LIFECYCLE_FIFO    set for the command: absolute path of --fifo
  PATH                   where to look for the command
  NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID
                         set by systemd; if run notifies systemd, they are not
                         passed on to the command; with --ready notify, the
                         command gets a socket of run
  LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
                         set by systemd; never passed on to the command

Files, in the state directory:
  status.json, events.jsonl, result.json
                         the state, the history and the result

Exit status:
  N      exit code of the command
  2      the command line is wrong; the command was not started
  124    the command ran longer than --timeout
  125    another run writes to the state directory; the command was not started
  126    the command cannot be run
  127    the command was not found
  128+N  signal N killed the command; if Ctrl-C, or a SIGINT to run, killed
         it, run is killed by SIGINT too, so that a shell loop ends
  If a file cannot be written, run prints a warning, and still exits with the
  exit code of the command.

Examples:
  pika-cloud-lifecycle run --state-dir demo -- sh -c 'sleep 1; exit 3'
  pika-cloud-lifecycle run --timeout 10m -- make test
  pika-cloud-lifecycle run --ready fd:5 -- sh -c 'echo up >&5; sleep 1'
  pika-cloud-lifecycle run -- bash -c 'sleep 5 & service=$!
    echo STATE=ready >&"$PIKA_LIFECYCLE_FD"; wait "$service"'
`

const ingestUsage = `Usage: pika-cloud-lifecycle ingest [FLAGS]

Read directives from standard input, one per line, and write the files. A
directive is a line of KEY=value words, or a JSON object:

  STATE=starting MESSAGE='fetching the image' DETAILS.image=agent:7
  {"state":"failed","exit_code":7,"message":"tests failed"}

The keys are state, message, exit_code, details and timestamp. With kind instead
of state, ingest writes only an event; with status instead of state, only the
result. The states are requested, provisioning, booted, starting, ready,
completed, failed, unreachable, stopped and destroyed.

ingest writes as soon as a line arrives. It rejects an invalid line: it prints
the reason, keeps the line in rejected.jsonl, and continues with the next one.

To report text from a script, use send. printf %q does not work in dash and
busybox: it joins the next line to the text.

Flags:
  --require-result       if the input ends without a result, record the result
                         "failed"; if the status is completed or failed and
                         result.json is missing or invalid, recreate it from the
                         status; if only the status of the result is missing,
                         add it; add nothing while a run is alive
  --dry-run              check the input and print what would be written, but
                         write nothing
  --fifo PATH            read from a FIFO, to which several programs can write;
                         create it if it does not exist
  --state-dir DIR        directory of the files (default $PIKA_LIFECYCLE_DIR,
                         otherwise /run/pika-cloud)

Advanced:
  --transitions WORD     what to do with a state that does not follow from the
                         current one, such as booted after ready: warn (accept
                         it and print a warning), enforce (reject the line), or
                         off (accept it) (default warn)
  --exit-on-result       exit after the result is written, without waiting for
                         the end of the input
  --grace DURATION       after SIGTERM or SIGHUP, wait this long for the end of
                         the input (default 5s, or 0s on a terminal)
  --write-timeout DURATION
                         retry for this long if a file cannot be written; then
                         continue to read, and keep only the last status, the
                         result and 2M of events in memory (default 30s)
  --fd N                 read from descriptor N (default 0, or a FIFO that
                         systemd passes for ListenFIFO=)
  --ack-fd N             after each commit, write "LINE SEQ REJECTED" to
                         descriptor N: how many lines were handled, the last
                         sequence number, and how many lines were rejected
  --max-line SIZE        reject longer lines (default 1M, at most 256M)
  --max-events SIZE      rename events.jsonl to events.jsonl.1 before it grows
                         beyond SIZE; 0 for never (default 64M)
  --max-rejected SIZE    stop writing to rejected.jsonl at SIZE (default 8M)
  --notify LIST          also notify systemd and Incus of each state: auto (each
                         one that is present), never, systemd, incus, or
                         systemd,incus (default auto)
  --journal WORD         also send events, results and rejected lines to the
                         systemd journal: never, auto (if there is a journal),
                         or always (warn if there is none) (default never)

A SIZE is a number of bytes, or a number with K, M or G, such as 64M.

Environment:
  PIKA_LIFECYCLE_DIR     state directory, if --state-dir is not given
  NOTIFY_SOCKET          socket of systemd for --notify
  WATCHDOG_USEC, WATCHDOG_PID
                         set by systemd for WatchdogSec=
  LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
                         set by systemd for ListenFIFO=; if LISTEN_PID is not
                         the PID of ingest, it warns and reads standard input
  SERVICE_RESULT, EXIT_CODE, EXIT_STATUS
                         set by systemd in ExecStopPost=; the result that
                         --require-result adds has them in its details

Files, in the state directory:
  status.json, events.jsonl, result.json
                         the state, the history and the result
  rejected.jsonl         lines that were rejected, and why
  events.jsonl.1         earlier events; see --max-events
  result.json.prev       result of the previous run

Exit status:
  0  all lines were accepted and are on disk
  1  a file could not be written, or the input could not be read
  2  the command line is wrong; nothing was changed
  3  some lines were rejected; all others are on disk

Examples:
  echo "STATE=ready MESSAGE='listening on 8080'" |
    pika-cloud-lifecycle ingest --state-dir demo
  echo STATE=redy | pika-cloud-lifecycle ingest --dry-run
  exec 3> >(exec pika-cloud-lifecycle ingest --require-result)   # only in bash
  echo STATE=completed >&3; exec 3>&-
`

const sendUsage = `Usage: pika-cloud-lifecycle send [FLAGS] KEY=VALUE...

Send one directive to run or ingest, which records it. Each argument is one key
and its value. VALUE can be any text, and needs no quotes except those of the
shell. KEY:=VALUE gives a JSON value, as in DETAILS.port:=8080.

The keys are STATE, MESSAGE, EXIT_CODE, DETAILS, DETAILS.name and TIMESTAMP.
With KIND instead of STATE, only an event is recorded; with STATUS instead of
STATE, only the result. The states are requested, provisioning, booted,
starting, ready, completed, failed, unreachable, stopped and destroyed.

send checks the directive, and writes it to the first of these that is given:
--to, --state-dir, the descriptor in $PIKA_LIFECYCLE_FD, the FIFO in
$PIKA_LIFECYCLE_FIFO. Otherwise it writes to lifecycle.fifo in the state
directory, the FIFO of the systemd units. If the descriptor is not the stream
of run any more, for example because sudo has closed it, send uses
$PIKA_LIFECYCLE_FIFO, and exits with 1 if that is not set.

Flags:
  --to PATH            write to this FIFO
  --timeout DURATION   if the FIFO is full, wait this long (default 5s)
  --state-dir DIR      write to lifecycle.fifo in this directory (default
                       $PIKA_LIFECYCLE_DIR, otherwise /run/pika-cloud)

Environment:
  PIKA_LIFECYCLE_FD, PIKA_LIFECYCLE_STREAM, PIKA_LIFECYCLE_FIFO
                       set by run for its command: the number of a descriptor,
                       its device and inode, and the path of the FIFO
  PIKA_LIFECYCLE_DIR   state directory, if --state-dir is not given

Exit status:
  0  the directive is in the FIFO, but not yet on disk
  1  the directive was not sent: nothing reads the FIFO, it is full or missing,
     or this user may not write to it
  2  the command line or the directive is wrong; nothing was sent

Examples:
  pika-cloud-lifecycle run -- sh -c 'pika-cloud-lifecycle send STATE=ready'
  pika-cloud-lifecycle send STATE=failed EXIT_CODE=7 MESSAGE="$message"
  pika-cloud-lifecycle send STATE=ready DETAILS.port:=8080 DETAILS.host="$host"
`

const rebuildUsage = `Usage: journalctl -o json --all ... | pika-cloud-lifecycle rebuild [FLAGS]

Rebuild the files of a guest from the systemd journal, if the guest has sent its
events to it with --journal. The input is the output of journalctl -o json
--all. Events keep their sequence numbers. rebuild skips entries that the files
already contain, and reports events that are missing from the journal. It adds
no event that was missing before: use an empty directory then, and one for each
events.jsonl.

Flags:
  --state-dir DIR      directory of the copy (default $PIKA_LIFECYCLE_DIR,
                       otherwise /run/pika-cloud)
  --trust-uid UID      also accept the entries that this user has sent (those
                       of root are always accepted)

Advanced:
  --fd N               read from descriptor N (default 0)
  --ack-fd N           after each commit, write "LINE SEQ REJECTED" to
                       descriptor N: how many lines were handled, the last
                       sequence number, and how many lines were rejected
  --grace DURATION     after SIGTERM or SIGHUP, wait this long for the end of
                       the input (default 5s)
  --max-line SIZE      reject longer lines (default 24M, at most 256M)
  --max-events SIZE    rename events.jsonl to events.jsonl.1 before it grows
                       beyond SIZE; 0 for never (default 64M)
  --max-rejected SIZE  stop writing to rejected.jsonl at SIZE (default 8M)

A SIZE is a number of bytes, or a number with K, M or G, such as 64M.

Environment:
  PIKA_LIFECYCLE_DIR   state directory, if --state-dir is not given

Files, in the state directory:
  status.json, events.jsonl, result.json
                       the copy
  rejected.jsonl       entries that were rejected, and why
  events.jsonl.1       events before the last rotation or the last reboot
  events.jsonl.boots   IDs of earlier boots; entries of these are skipped

Exit status:
  0  all entries were accepted and are on disk
  1  a file could not be written, the input could not be read, nothing was
     rebuilt, or another run, ingest or rebuild writes to the directory
  2  the command line is wrong; nothing was changed
  3  some entries were rejected; all others are on disk

Examples:
  journalctl -o json --all PIKA_EVENTS_PATH=/run/pika-cloud/events.jsonl |
    pika-cloud-lifecycle rebuild --state-dir copy
  journalctl -o json --all -D /var/log/journal/remote _MACHINE_ID=ID \
    PIKA_EVENTS_PATH=/run/pika-cloud/events.jsonl |
    pika-cloud-lifecycle rebuild --state-dir guest7
`

const waitUsage = `Usage: pika-cloud-lifecycle wait --for STATE[,STATE...] [FLAGS]

Wait until the guest is in one of the states, and print the status. The files
and the directory may be created later.

The states are requested, provisioning, booted, starting, ready, completed,
failed, unreachable, stopped and destroyed. For starting and the states before
it, wait also succeeds if the guest is in a later state, up to ready. For
completed and failed, wait also waits until result.json is written. A state that
the guest passes through while wait runs counts too.

Flags:
  --for STATES         states to wait for, separated by commas
  --timeout DURATION   stop waiting after this time, such as 2m; 0s checks once
                       (default: no limit)
  --state-dir DIR      directory of the files (default $PIKA_LIFECYCLE_DIR,
                       otherwise /run/pika-cloud)

Advanced:
  --after SEQ          only what has a higher sequence number counts, such as
                       the next run; a status or a result without one does not
                       count. show --seq prints the current sequence number
  --boot WORD          current: ignore a status that was written before the last
                       reboot of this machine; any: accept it, for files that
                       were copied from another machine (default current)
  --format WORD        print the status as text or json (default text)

Environment:
  PIKA_LIFECYCLE_DIR   state directory, if --state-dir is not given

Exit status:
  0    the guest is in one of the states, or passed through one while wait ran,
       or after event SEQ with --after
  1    the run ended in another way, such as failed instead of ready, or the
       guest is stopped or destroyed; or the status could not be printed
  2    the command line is wrong
  3    the files cannot be read, or a newer version wrote them
  4    run, ingest or rebuild died, or could not write its status or result
  124  the guest did not reach any of the states within --timeout

Examples:
  pika-cloud-lifecycle wait --for ready --timeout 2m
  pika-cloud-lifecycle wait --for completed,failed --format json
  seq=$(pika-cloud-lifecycle show --seq)  # before the next run starts
  pika-cloud-lifecycle wait --for ready --after "$seq" --timeout 2m
  pika-cloud-lifecycle wait --for completed --boot any --state-dir guest7
`

// The flags that status, event and result have in common.
const (
	stateList = `requested, provisioning, booted, starting, ready,
                       completed, failed, unreachable, stopped or destroyed`
	detailsFlag = `  --details-json JSON  more information, as any JSON value
`
	stateDirFlag = `  --state-dir DIR      directory of the files (default $PIKA_LIFECYCLE_DIR,
                       otherwise /run/pika-cloud)
`
	oneshotJournalFlag = `  --journal WORD       also send it to the systemd journal: never, auto (if
                       there is a journal), or always (warn if there is none)
                       (default never)
`
	oneshotEnd = `
Environment:
  PIKA_LIFECYCLE_DIR   state directory, if --state-dir is not given

Exit status:
  0  the file is written, and is on disk
  1  the file could not be written
  2  the command line is wrong; nothing was changed
`
)

const statusUsage = `Usage: pika-cloud-lifecycle status --state STATE --message TEXT [FLAGS]

Replace status.json, the current state of the guest. To record an event at the
same time, use ingest.

Flags:
  --state STATE        ` + stateList + `
  --message TEXT       text for an operator; may be empty
` + detailsFlag + stateDirFlag + `
Advanced:
  --status-path PATH   file to replace (default status.json in the state
                       directory)
` + oneshotEnd + `
Examples:
  pika-cloud-lifecycle status --state-dir demo --state ready --message ''
  pika-cloud-lifecycle status --state starting --message 'fetching the image' \
    --details-json '{"image":"agent:7"}'
`

const eventUsage = `Usage: pika-cloud-lifecycle event --kind STATE --message TEXT [FLAGS]

Append one event to events.jsonl, the history of the guest. To replace
status.json at the same time, use ingest.

Flags:
  --kind STATE         ` + stateList + `
  --message TEXT       text for an operator; may be empty
` + detailsFlag + stateDirFlag + `
Advanced:
  --events-path PATH   file to append to (default events.jsonl in the state
                       directory)
  --seq-path PATH      file with the last sequence number, which is also the
                       lock; all writers must use the same one (default: the
                       events path with .seq appended)
` + oneshotJournalFlag + oneshotEnd + `
Examples:
  pika-cloud-lifecycle event --state-dir demo --kind booted --message ''
  pika-cloud-lifecycle event --kind ready --message 'listening on 8080' \
    --details-json '{"port":8080}'
`

const resultUsage = `Usage: pika-cloud-lifecycle result --status OUTCOME --message TEXT [FLAGS]

Replace result.json, which records how the run ended. To record an event and
replace status.json at the same time, use ingest. If the disk is full or has an
I/O error, result retries for up to 30s.

Flags:
  --status OUTCOME     completed or failed
  --message TEXT       text for an operator; may be empty
  --exit-code N        exit code of the job (default 0 for completed, none for
                       failed)
` + detailsFlag + stateDirFlag + `
Advanced:
  --result-path PATH   file to replace (default result.json in the state
                       directory)
` + oneshotJournalFlag + oneshotEnd + `
Examples:
  pika-cloud-lifecycle result --state-dir demo --status completed --message ''
  pika-cloud-lifecycle result --status failed --exit-code 7 \
    --message 'tests failed' --details-json '{"test":"TestStart"}'
`

const showUsage = `Usage: pika-cloud-lifecycle show [FLAGS] [DIR | FILE...]

Print the current state of a guest, its result and its history. For each event,
show prints its time, the time since the previous event and since boot, the
state, the message and the details.

DIR is a state directory. A FILE is a copy of status.json, events.jsonl or
result.json; it may have any name. show changes nothing.

Flags:
  --follow             print new events as they are written, until Ctrl-C. The
                       directory may be created later
  --seq                print only the sequence number of the last event, for
                       wait --after; 0 if there is none, or no directory
  --utc                print times in UTC (default: local time)
  --format WORD        text, or json: one object per line (default text)
  --state-dir DIR      the same as DIR (default $PIKA_LIFECYCLE_DIR, otherwise
                       /run/pika-cloud)

Environment:
  PIKA_LIFECYCLE_DIR   state directory, if neither DIR nor FILE is given
  COLUMNS              width of the output (default: that of the terminal)
  NO_COLOR             if it is not empty, use no colour
  TERM                 if it is dumb, use no colour
  TZ                   local time zone

Exit status:
  0  everything was printed
  1  a file could not be read, there is nothing to print, or the output could
     not be written
  2  the command line is wrong

Examples:
  pika-cloud-lifecycle show
  pika-cloud-lifecycle show --follow
  pika-cloud-lifecycle show --utc guest7/events.jsonl guest7/status.json | less
`

const plotUsage = `Usage: pika-cloud-lifecycle plot [FLAGS] [DIR | FILE...]

Draw the history of a guest as an SVG picture, and print it. The picture has a
bar for each state over the time since boot, and one axis for each boot. Open it
in a web browser, and point at a bar to see its message and details.

DIR is a state directory. A FILE is a copy of status.json, events.jsonl or
result.json; it may have any name.

Flags:
  --state-dir DIR      the same as DIR (default $PIKA_LIFECYCLE_DIR, otherwise
                       /run/pika-cloud)

Environment:
  PIKA_LIFECYCLE_DIR   state directory, if neither DIR nor FILE is given

Exit status:
  0  the picture was printed
  1  a file could not be read, or there is nothing to draw
  2  the command line is wrong

Examples:
  pika-cloud-lifecycle plot > history.svg
  pika-cloud-lifecycle plot guest7/events.jsonl > guest7.svg
`

const verifyUsage = `Usage: pika-cloud-lifecycle verify [FLAGS] [DIR]

Check the files in a state directory, and print each problem: invalid files and
lines, sequence numbers that do not increase, incomplete lines, a status or a
result that does not match the events, temporary files, and wrong owners and
permissions. verify also prints each writer that has died.

Flags:
  --repair             repair what can be repaired, and keep the removed lines
                       in the files below
  --format WORD        text or json (default text)
  --state-dir DIR      the same as DIR (default $PIKA_LIFECYCLE_DIR, otherwise
                       /run/pika-cloud)

Run verify as the owner of the files, usually root. Other users cannot read the
lock file, events.jsonl.seq, so verify cannot check it and exits with 3.

Environment:
  PIKA_LIFECYCLE_DIR   state directory, if DIR is not given

Files, in the state directory (N is a number):
  events.jsonl.damagedN, rejected.jsonl.damagedN
                       the file before it was repaired
  events.jsonl.torn, rejected.jsonl.torn
                       incomplete last lines that were removed from the file

Exit status:
  0  the files are valid
  1  the files are invalid, or could not be repaired
  2  the command line is wrong
  3  the directory, or a file in it, cannot be read; everything else is valid

Examples:
  pika-cloud-lifecycle verify
  pika-cloud-lifecycle verify --repair guest7
`

const schemaUsage = `Usage: pika-cloud-lifecycle schema [NAME]

Print a JSON Schema. The names are directive (a line of the input of ingest),
events (a line of events.jsonl), rejected (a line of rejected.jsonl), result and
status. Without NAME, print all of them as one object.

Exit status:
  0  the schema was printed
  2  the command line is wrong

Examples:
  pika-cloud-lifecycle schema events
  pika-cloud-lifecycle schema | jq keys
`
