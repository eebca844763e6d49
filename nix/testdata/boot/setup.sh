#!/usr/bin/env bash
# setup.sh creates the users and the systemd-tmpfiles rules, as NixOS does when it
# activates a system.
set -euo pipefail

systemd-sysusers /opt/lab/users.conf
cp /opt/lab/tmpfiles.conf /etc/tmpfiles.d/lab.conf
