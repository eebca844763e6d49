#!/bin/sh
# Runs before apk removes the package, and not when it upgrades it. The state directory
# stays: the host may not have read it yet.

if command -v rc-service >/dev/null; then
	rc-service --ifstarted pika-cloud-lifecycle stop
	rc-update --quiet --all delete pika-cloud-lifecycle
fi
exit 0
