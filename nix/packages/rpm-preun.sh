#!/bin/sh
# Runs before rpm removes (0) or upgrades (1) the package. An upgrade stops nothing.

if [ "$1" -eq 0 ]; then
	if [ -d /run/systemd/system ]; then
		systemctl stop pika-cloud-lifecycle.socket pika-cloud-lifecycle.service 'pika-cloud-fleet@*.service'
	fi
	if command -v systemctl >/dev/null; then
		systemctl --no-reload disable pika-cloud-lifecycle.socket pika-cloud-fleet@.service
	fi
fi
exit 0
