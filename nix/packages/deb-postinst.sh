#!/bin/sh
# Runs after dpkg has unpacked the package. It enables and starts the socket, as packages
# of Debian do. The policy of the machine (policy-rc.d, presets) can prevent this.
set -e

case $1 in
configure | abort-upgrade | abort-deconfigure | abort-remove) ;;
*) exit 0 ;;
esac

# This works without a running systemd, such as when an image is built. dpkg itself runs
# journalctl --update-catalog: the package systemd has a trigger on the directory.
if command -v systemd-tmpfiles >/dev/null; then
	systemd-tmpfiles --create pika-cloud-lifecycle.conf || true
fi

# A socket that an administrator has disabled stays disabled.
if deb-systemd-helper --quiet was-enabled pika-cloud-lifecycle.socket; then
	deb-systemd-helper enable pika-cloud-lifecycle.socket >/dev/null || true
else
	deb-systemd-helper update-state pika-cloud-lifecycle.socket >/dev/null || true
fi

# Starting changes nothing if the socket is active. A restart would stop a run.
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || true
	deb-systemd-invoke start pika-cloud-lifecycle.socket >/dev/null || true
fi
