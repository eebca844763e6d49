#!/usr/bin/env bash
# installed.sh waits until cloud-init has run the user data of docs/install.md, checks the
# installed files, and reboots. In the second boot it prints the first line to the FIFO.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
fifo=$state/lifecycle.fifo
explained() { journalctl -x --no-pager SYSLOG_IDENTIFIER=pika-cloud-lifecycle | grep 'Subject: Guest has booted'; }
has_seq() { [[ $(jq .seq "$state/status.json") == "$1" ]]; }

systemctl start cloud-final.service # returns when it has run
cat /run/cloud-init/result.json
jq -e '.v1.errors == []' /run/cloud-init/result.json
active pika-cloud-lifecycle.socket active
active pika-cloud-lifecycle.service inactive
stat -c "%A %U %G" "$fifo" >>"$out/modes"
if [[ ! -e $out/next ]]; then
  [[ $(command -v pika-cloud-lifecycle) == /usr/local/bin/pika-cloud-lifecycle ]]
  systemd-analyze verify /usr/local/lib/systemd/system/pika-cloud-*.s* >"$out/verify" 2>&1
  systemd-analyze security --no-pager --threshold=20 pika-cloud-lifecycle.service >"$out/security"
  man -w pika-cloud-lifecycle >"$out/man"
  cp /opt/lab/farewell.service /etc/systemd/system/
  systemctl daemon-reload
  systemctl start farewell.service
  reaches booted
  await explained >"$out/explained"
  echo reboot >"$out/next"
else
  echo poweroff >"$out/next"
  mv "$out/off" "$out/first"
  [[ ! -e $state/status.json ]] # /run was empty

  # The state directory is removed while ingest runs, as docs/install.md describes.
  echo STATE=stopped >"$fifo"
  reaches stopped
  rm -r "$state"
  systemctl stop pika-cloud-lifecycle.service
  systemctl restart pika-cloud-lifecycle.socket
  timeout 60 sh -c "echo STATE=booted >$fifo"
  reaches booted
  systemctl start farewell.service
  await has_seq 2
fi
