#!/usr/bin/env bash
# setup.sh creates the users and the systemd-tmpfiles rules, as NixOS does when it
# activates a system. If the test has user data, it is what cloud-init finds.
set -euo pipefail

systemd-sysusers /opt/lab/users.conf
cp /opt/lab/tmpfiles.conf /etc/tmpfiles.d/lab.conf
if [[ -e /opt/lab/user-data ]]; then
  seed=/var/lib/cloud/seed/nocloud
  mkdir -p $seed
  cp /opt/lab/user-data $seed/
  echo 'instance-id: lab' >$seed/meta-data
  # No search for other sources, and no modules that this machine may not support.
  printf '%s\n' 'datasource_list: [NoCloud]' 'locale: false' 'ssh_genkeytypes: []' >/etc/cloud/cloud.cfg.d/lab.cfg
fi
