#!/usr/bin/env bash
# installed.sh runs the user data of docs/install.md, as cloud-init does, and checks
# the installed files.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh

sh /opt/lab/runcmd
[[ $(command -v pika-cloud-lifecycle) == /usr/local/bin/pika-cloud-lifecycle ]]
systemd-analyze verify /usr/local/lib/systemd/system/pika-cloud-*.s* >"$out/verify" 2>&1
systemd-analyze security --no-pager --threshold=20 pika-cloud-lifecycle.service >"$out/security"
man -w pika-cloud-lifecycle >"$out/man"
cp /opt/lab/farewell.service /etc/systemd/system/
systemctl daemon-reload
systemctl start farewell.service
reaches booted
stat -c "%A %U %G" $state/lifecycle.fifo >"$out/modes"
explained() { journalctl -x --no-pager SYSLOG_IDENTIFIER=pika-cloud-lifecycle | grep 'Subject: Guest has booted'; }
await explained >"$out/explained"
