# Completion for fish. A test, cmd/pika-cloud-lifecycle/completions_test.go, compares it
# with the program.

# Succeeds if the first argument of the command line is one of the arguments.
function __pika_cloud_lifecycle_is
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv
end

function __pika_cloud_lifecycle_no_command
    test (count (commandline -opc)) -eq 1
end

# Prints the words of the command that run starts, before the current word.
function __pika_cloud_lifecycle_command
    set -l words (commandline -opc)
    test "$words[2]" = run
    or return
    set -l has_value --timeout --state-dir --kill-after --message --notify --journal --tail --fifo --ready
    set -l i 3
    while test $i -le (count $words)
        switch $words[$i]
            case --
                set i (math $i + 1)
                break
            case '--*=*'
                set i (math $i + 1)
            case '-*'
                contains -- $words[$i] $has_value
                and set i (math $i + 1)
                set i (math $i + 1)
            case '*'
                break
        end
    end
    test $i -le (count $words)
    and string join \n -- $words[$i..]
end

function __pika_cloud_lifecycle_run
    set -l words (__pika_cloud_lifecycle_command)
    set -l line (string join ' ' -- (string escape -- $words) (commandline -ct))
    complete --do-complete="$line"
end

# Prints the states, after those that the list before the cursor already has.
function __pika_cloud_lifecycle_list
    set -l list (string replace -r '^--for=' '' -- (commandline -ct) | string replace -rf '[^,]*$' '')
    printf '%s\n' $list$argv
end

function __pika_cloud_lifecycle_directories
    __fish_complete_directories (string replace -r '^--[a-z-]+=' '' -- (commandline -ct))
end

# Prints the keys of a directive, or the values of the key before the cursor.
function __pika_cloud_lifecycle_pair
    switch (commandline -ct)
        case 'STATE=*' 'KIND=*'
            set -l key (string split -f 1 = -- (commandline -ct))
            printf '%s\n' $key=$argv
        case 'STATUS=*'
            printf '%s\n' STATUS=completed STATUS=failed
        case '*'
            printf '%s\n' STATE= KIND= STATUS= MESSAGE= EXIT_CODE= DETAILS= DETAILS. TIMESTAMP=
    end
end

set -l states requested provisioning booted starting ready completed failed unreachable stopped destroyed
set -l commands run ingest send rebuild wait status event result show plot verify schema

complete -c pika-cloud-lifecycle -f
complete -c pika-cloud-lifecycle -l help -d 'Print the help' -n 'not __pika_cloud_lifecycle_command >/dev/null'
complete -c pika-cloud-lifecycle -l version -d 'Print the version' -n __pika_cloud_lifecycle_no_command
complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is help; and test (count (commandline -opc)) -eq 2' -a "$commands"
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a run -d 'Run a command, and record when it starts and how it ends'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a ingest -d 'Read lines such as STATE=ready, and record each of them'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a send -d 'Send one directive to run or ingest'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a rebuild -d 'Rebuild the files of a guest from the systemd journal'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a wait -d 'Wait until the guest is in a given state, such as ready'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a status -d 'Replace status.json'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a event -d 'Append one event to events.jsonl'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a result -d 'Replace result.json'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a show -d 'Print the current state and the history'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a plot -d 'Draw the history as an SVG picture'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a verify -d 'Check the files, and repair them'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a schema -d 'Print the JSON Schemas of the files'
complete -c pika-cloud-lifecycle -n __pika_cloud_lifecycle_no_command -a help -d 'Print the help of a command'

# COMMANDS FLAG ARGUMENTS adds a flag of these commands; not in the words after run.
function __pika_cloud_lifecycle_flag
    complete -c pika-cloud-lifecycle -l $argv[2] $argv[3..] \
        -n "__pika_cloud_lifecycle_is $argv[1]; and not __pika_cloud_lifecycle_command >/dev/null"
end
__pika_cloud_lifecycle_flag 'run ingest send rebuild wait status event result show plot verify' state-dir -xa '(__pika_cloud_lifecycle_directories)' -d 'Directory of the files'
__pika_cloud_lifecycle_flag 'run status event result' message -x -d 'Text for an operator'
__pika_cloud_lifecycle_flag 'status event result' details-json -x -d 'More information, as JSON'
__pika_cloud_lifecycle_flag 'run ingest' notify -xa 'auto never systemd incus systemd,incus' -d 'Also notify systemd and Incus'
__pika_cloud_lifecycle_flag 'run ingest event result' journal -xa 'never auto always' -d 'Also send to the systemd journal'
__pika_cloud_lifecycle_flag 'wait show verify' format -xa 'text json' -d 'Format of the output'
__pika_cloud_lifecycle_flag 'ingest rebuild' fd -x -d 'Read from this descriptor'
__pika_cloud_lifecycle_flag 'ingest rebuild' ack-fd -x -d 'Acknowledge commits on this descriptor'
__pika_cloud_lifecycle_flag 'ingest rebuild' grace -x -d 'After SIGTERM, wait this long for the end of the input'
__pika_cloud_lifecycle_flag 'ingest rebuild' max-line -x -d 'Reject longer lines'
__pika_cloud_lifecycle_flag 'ingest rebuild' max-events -x -d 'Rename events.jsonl before it grows beyond this size'
__pika_cloud_lifecycle_flag 'ingest rebuild' max-rejected -x -d 'Stop writing to rejected.jsonl at this size'
__pika_cloud_lifecycle_flag 'run' timeout -x -d 'Send SIGTERM if the command runs longer'
__pika_cloud_lifecycle_flag 'run' kill-after -x -d 'Send SIGKILL this long after the SIGTERM of --timeout'
__pika_cloud_lifecycle_flag 'run' tail -x -d 'Add the last lines of standard error to the result'
__pika_cloud_lifecycle_flag 'run' ready -xa 'notify fd:' -d 'How the command reports that it is ready'
__pika_cloud_lifecycle_flag 'run' no-argv -d 'Do not record the arguments of the command'
__pika_cloud_lifecycle_flag 'ingest' require-result -d 'If the input ends without a result, record failed'
__pika_cloud_lifecycle_flag 'ingest' dry-run -d 'Print what would be written'
__pika_cloud_lifecycle_flag 'run ingest' fifo -rF -d 'Read from a FIFO'
__pika_cloud_lifecycle_flag 'ingest' transitions -xa 'warn enforce off' -d 'What to do with an unusual transition'
__pika_cloud_lifecycle_flag 'ingest' exit-on-result -d 'Exit after the result is written'
__pika_cloud_lifecycle_flag 'ingest' write-timeout -x -d 'Retry for this long if a file cannot be written'
__pika_cloud_lifecycle_flag 'send' to -rF -d 'Write to this FIFO'
__pika_cloud_lifecycle_flag 'send' timeout -x -d 'If the FIFO is full, wait this long'
__pika_cloud_lifecycle_flag 'rebuild' trust-uid -x -d 'Also accept the entries of this user'
__pika_cloud_lifecycle_flag 'wait' for -xa "(__pika_cloud_lifecycle_list $states)" -d 'States to wait for'
__pika_cloud_lifecycle_flag 'wait' timeout -x -d 'Stop waiting after this time'
__pika_cloud_lifecycle_flag 'wait' after -x -d 'Only what has a higher sequence number counts'
__pika_cloud_lifecycle_flag 'wait' boot -xa 'current any' -d 'Ignore a status of an earlier boot, or accept it'
__pika_cloud_lifecycle_flag 'status' state -xa "$states" -d 'State of the guest'
__pika_cloud_lifecycle_flag 'status' status-path -rF -d 'File to replace'
__pika_cloud_lifecycle_flag 'event' kind -xa "$states" -d 'State of the guest'
__pika_cloud_lifecycle_flag 'event' events-path -rF -d 'File to append to'
__pika_cloud_lifecycle_flag 'event' seq-path -rF -d 'File with the last sequence number'
__pika_cloud_lifecycle_flag 'result' status -xa 'completed failed' -d 'How the run ended'
__pika_cloud_lifecycle_flag 'result' exit-code -x -d 'Exit code of the job'
__pika_cloud_lifecycle_flag 'result' result-path -rF -d 'File to replace'
__pika_cloud_lifecycle_flag 'show' follow -d 'Print new events as they are written'
__pika_cloud_lifecycle_flag 'show' seq -d 'Print only the sequence number of the last event'
__pika_cloud_lifecycle_flag 'show' utc -d 'Print times in UTC'
__pika_cloud_lifecycle_flag 'verify' repair -d 'Repair what can be repaired'
functions --erase __pika_cloud_lifecycle_flag

complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is run' -xa '(__pika_cloud_lifecycle_run)'
complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is send' -xa "(__pika_cloud_lifecycle_pair $states)"
complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is show plot' -F
complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is verify' -xa '(__pika_cloud_lifecycle_directories)'
complete -c pika-cloud-lifecycle -n '__pika_cloud_lifecycle_is schema' -xa 'directive events rejected result status'
