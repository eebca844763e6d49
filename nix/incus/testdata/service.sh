#!/usr/bin/env bash
# service.sh is a service that does as a test says. It leaves a child behind,
# tells NEWS its pid, the child's, and the signals that it was started with
# ignored, and exits with the code that it reads from ORDERS. ON_TERM is what
# it does about SIGTERM: a code to exit with, or "never".
set -euo pipefail

# Asked of a child: bash itself always ignores SIGQUIT, but no child of it does.
ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status)
case ${ON_TERM-} in
'') ;;
never) trap '' TERM ;;
*) trap 'exit "$ON_TERM"' TERM ;;
esac

cat "$LEFT" &
exec 4<>"$ORDERS"
echo "$$ $! $ignored" >"$NEWS"
read -r code <&4
exit "$code"
