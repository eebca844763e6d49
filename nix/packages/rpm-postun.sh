#!/bin/sh
# Runs after rpm has removed the package (0) or the previous one of an upgrade (1). The
# state directory stays: the host may not have read it yet.

if command -v journalctl >/dev/null; then
	journalctl --update-catalog
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
exit 0
