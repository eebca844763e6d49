#!/bin/sh
# Runs before dpkg removes or upgrades the package. An upgrade stops nothing.
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	deb-systemd-invoke stop pika-cloud-lifecycle.socket pika-cloud-lifecycle.service 'pika-cloud-fleet@*.service' >/dev/null || true
fi
