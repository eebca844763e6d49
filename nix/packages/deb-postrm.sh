#!/bin/sh
# Runs after dpkg has removed, purged or upgraded the package. The state directory stays:
# the host may not have read it yet.
set -e

case $1 in
remove)
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload || true
	fi
	;;
purge)
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge pika-cloud-lifecycle.socket >/dev/null || true
	fi
	rm -f /etc/systemd/system/multi-user.target.wants/pika-cloud-fleet@*.service
	;;
esac
