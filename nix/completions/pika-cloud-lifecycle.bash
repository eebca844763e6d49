# Completion for bash. It works with and without the package bash-completion, and starts
# no other program. A test, cmd/pika-cloud-lifecycle/completions_test.go, compares it with
# the program.

_pika_cloud_lifecycle() {
  local commands='run ingest send rebuild wait status event result show plot verify schema'
  local states='requested provisioning booted starting ready completed failed unreachable stopped destroyed'
  local IFS=$' \t\n' # a user can have another one
  COMPREPLY=()

  # bash also separates words at the characters = and :. words has the words that are
  # separated by spaces, first has the index in COMP_WORDS at which each of them begins,
  # and offset has the one in COMP_LINE.
  local typed=$2 rest=${COMP_LINE:0:COMP_POINT} spaces i
  local -a words=() first=() offset=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    spaces=${rest%%[![:space:]]*}
    rest=${rest#"$spaces"}
    if [[ $i -eq 0 || $spaces ]]; then
      words+=('') first+=("$i") offset+=($((COMP_POINT - ${#rest})))
    fi
    if ((i == COMP_CWORD)); then
      words[${#words[@]} - 1]+=$rest
    else
      words[${#words[@]} - 1]+=${COMP_WORDS[i]}
      rest=${rest#"${COMP_WORDS[i]}"}
    fi
  done
  local last=$((${#words[@]} - 1))
  local cur=${words[last]}

  if ((last == 1)); then
    if [[ $cur == -* ]]; then
      _pika_cloud_lifecycle_reply '' '--help --version'
    else
      _pika_cloud_lifecycle_reply '' "$commands help"
    fi
    return
  fi

  # The flags of the command. Those with = have a value.
  local flags command=${words[1]}
  case $command in
    run) flags='--timeout= --state-dir= --kill-after= --message= --notify= --journal= --tail= --no-argv --fifo= --ready=' ;;
    ingest) flags='--require-result --dry-run --fifo= --state-dir= --transitions= --exit-on-result --grace=
      --write-timeout= --fd= --ack-fd= --max-line= --max-events= --max-rejected= --notify= --journal=' ;;
    send) flags='--to= --timeout= --state-dir=' ;;
    rebuild) flags='--state-dir= --trust-uid= --fd= --ack-fd= --grace= --max-line= --max-events= --max-rejected=' ;;
    wait) flags='--for= --timeout= --state-dir= --after= --boot= --format=' ;;
    status) flags='--state= --message= --details-json= --state-dir= --status-path=' ;;
    event) flags='--kind= --message= --details-json= --state-dir= --events-path= --seq-path= --journal=' ;;
    result) flags='--status= --message= --exit-code= --details-json= --state-dir= --result-path= --journal=' ;;
    show) flags='--follow --seq --utc --format= --state-dir=' ;;
    plot) flags='--state-dir=' ;;
    verify) flags='--repair --format= --state-dir=' ;;
    schema) flags='' ;;
    help)
      if ((last == 2)); then
        _pika_cloud_lifecycle_reply '' "$commands"
      fi
      return
      ;;
    *) return ;;
  esac
  flags=" ${flags//[[:space:]]/ } --help "

  # Find out what the current word is: the value of a flag, a flag, or an operand.
  local flag='' no_more_flags='' operands=0 word
  for ((i = 2; i < last; i++)); do
    word=${words[i]}
    if [[ $flag ]]; then
      flag=''
    elif [[ $no_more_flags || $word != -* ]]; then
      if [[ $command == run ]]; then
        _pika_cloud_lifecycle_command "${first[i]}" "${offset[i]}"
        return
      fi
      operands=$((operands + 1))
    elif [[ $word == -- ]]; then
      no_more_flags=1
    elif [[ $flags == *" $word= "* ]]; then
      flag=$word
    fi
  done
  local prefix=''
  if [[ ! $flag && ! $no_more_flags && $cur == --*=* ]]; then
    flag=${cur%%=*} prefix=${cur%%=*}=
  fi

  case $flag in
    --state-dir) compopt -o dirnames ;;
    --fifo | --to | --*-path) compopt -o default ;;
    --state | --kind) _pika_cloud_lifecycle_reply "$prefix" "$states" ;;
    --for)
      word=${cur#"$prefix"}
      _pika_cloud_lifecycle_reply "$prefix${word%"${word##*,}"}" "$states"
      ;;
    --status) _pika_cloud_lifecycle_reply "$prefix" 'completed failed' ;;
    --ready)
      compopt -o nospace
      _pika_cloud_lifecycle_reply "$prefix" 'notify fd:'
      ;;
    --transitions) _pika_cloud_lifecycle_reply "$prefix" 'warn enforce off' ;;
    --boot) _pika_cloud_lifecycle_reply "$prefix" 'current any' ;;
    --format) _pika_cloud_lifecycle_reply "$prefix" 'text json' ;;
    --journal) _pika_cloud_lifecycle_reply "$prefix" 'never auto always' ;;
    --notify) _pika_cloud_lifecycle_reply "$prefix" 'auto never systemd incus systemd,incus' ;;
    ?*) ;; # a number, a duration or a text
    *)
      if [[ ! $no_more_flags && $cur == -* ]]; then
        _pika_cloud_lifecycle_reply '' "${flags//=/}"
        return
      fi
      case $command in
        run) _pika_cloud_lifecycle_command "${first[last]}" "${offset[last]}" ;;
        send)
          case $cur in
            STATE=* | KIND=*) _pika_cloud_lifecycle_reply "${cur%%=*}=" "$states" ;;
            STATUS=*) _pika_cloud_lifecycle_reply STATUS= 'completed failed' ;;
            *)
              compopt -o nospace
              _pika_cloud_lifecycle_reply '' 'STATE= KIND= STATUS= MESSAGE= EXIT_CODE= DETAILS= DETAILS. TIMESTAMP='
              ;;
          esac
          ;;
        show | plot) compopt -o default ;;
        verify) compopt -o dirnames ;;
        schema)
          if ((operands == 0)); then
            _pika_cloud_lifecycle_reply '' 'directive events rejected result status'
          fi
          ;;
      esac
      ;;
  esac
}

# _pika_cloud_lifecycle_reply PREFIX WORDS adds each PREFIX + WORD that begins as the
# current word. bash replaces only what it regards as the current word: the part after the
# last = or :.
_pika_cloud_lifecycle_reply() {
  local candidate word
  for word in $2; do
    candidate=$1$word
    if [[ $candidate == "$cur"* ]]; then
      COMPREPLY+=("${candidate#"${cur%"$typed"}"}")
    fi
  done
}

# _pika_cloud_lifecycle_command INDEX OFFSET completes the command that run starts, which
# begins at INDEX in COMP_WORDS, and at OFFSET in COMP_LINE.
_pika_cloud_lifecycle_command() {
  local helper
  for helper in _comp_command_offset _command_offset; do # of bash-completion
    if declare -F "$helper" >/dev/null; then
      "$helper" "$1"
      return
    fi
  done
  if ((COMP_CWORD == $1)); then
    compopt -o default
    if [[ $typed != */* ]]; then
      mapfile -t COMPREPLY < <(compgen -c -- "$typed")
    fi
    return
  fi
  local name=${COMP_WORDS[$1]} spec
  spec=$(complete -p -- "$name" 2>/dev/null || complete -p -- "${name##*/}" 2>/dev/null)
  if [[ $spec =~ \ -F\ ([^ ]+) ]]; then
    COMP_LINE=${COMP_LINE:$2} COMP_POINT=$((COMP_POINT - $2))
    COMP_WORDS=("${COMP_WORDS[@]:$1}") COMP_CWORD=$((COMP_CWORD - $1))
    "${BASH_REMATCH[1]}" "$name" "$typed" "${COMP_WORDS[COMP_CWORD - 1]}"
  else
    compopt -o default
  fi
}

complete -F _pika_cloud_lifecycle pika-cloud-lifecycle
