#!/bin/sh
# Runs after rpm has installed (1) or upgraded (2) the package. The presets of the
# distribution decide whether the socket is enabled. In Fedora it is not.

if command -v systemd-tmpfiles >/dev/null; then
	systemd-tmpfiles --create pika-cloud-lifecycle.conf
fi
if command -v journalctl >/dev/null; then
	journalctl --update-catalog
fi
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset pika-cloud-lifecycle.socket
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
exit 0
