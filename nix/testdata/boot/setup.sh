#!/usr/bin/env bash
# setup.sh does what NixOS does when it activates a system, to the users and the
# rules for systemd-tmpfiles.
set -euo pipefail

systemd-sysusers /opt/lab/users.conf
cp /opt/lab/tmpfiles.conf /etc/tmpfiles.d/lab.conf
