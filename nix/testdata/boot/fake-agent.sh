#!/usr/bin/env bash
# fake-agent.sh is an agent that exits with the code that it reads from a FIFO. It
# reports its user, its argument and whether it can forge a status.
set -euo pipefail

trap 'exit 0' TERM
printf %s "$1" >/var/lib/agent/argument
{
	id -un
	id -Gn
	echo "$HOME"
	echo "notify ${NOTIFY_SOCKET-none}"
	if echo forged >/opt/lab/state._+@:-/status.json; then echo forged; fi
} >>/var/lib/agent/output 2>/dev/null
[[ -p /var/lib/agent/orders ]] || mkfifo /var/lib/agent/orders
exec 4<>/var/lib/agent/orders
read -r code <&4
exit "$code"
