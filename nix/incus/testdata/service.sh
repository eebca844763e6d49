#!/usr/bin/env bash
# service.sh is a service that a test controls. It starts a child that outlives it,
# prints its process ID, that of the child, and the signals that it inherited as
# ignored to NEWS, and exits with the code that it reads from ORDERS. ON_TERM is its
# reaction to SIGTERM: an exit code, or "never".
set -euo pipefail

# Read from a child, because bash itself always ignores SIGQUIT.
ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status)
case ${ON_TERM-} in
'') ;;
never) trap '' TERM ;;
*) trap 'exit "$ON_TERM"' TERM ;;
esac

cat "$LEFT" &
exec 4<>"$ORDERS"
echo "$$ $! $ignored" >"$NEWS"
until read -r -t 5 code <&4; do :; done # a signal just before a read is handled only after it
exit "$code"
