#!/usr/bin/env bash
# packages.sh installs, upgrades, removes and purges the packages of two versions.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
socket=pika-cloud-lifecycle.socket
service=pika-cloud-lifecycle.service
fifo=$state/lifecycle.fifo
old=/opt/lab/old/pika-cloud-lifecycle
new=/opt/lab/new/pika-cloud-lifecycle
rm -f /var/lib/man-db/auto-update # updating its index for all packages takes seconds

# left prints the files with the name of the program, except the state directory and those
# of the running systemd.
left() { find /etc /usr /var/lib /run -xdev -name '*pika-cloud*' -not -path "$state*" -not -path '/run/systemd/*'; }
explained() { journalctl --dump-catalog | grep -q 'Defined-By: pika-cloud-lifecycle'; }
enabled() { [[ $(systemctl is-enabled "$1" 2>&1) == "$2" ]]; }
no() { if "$@"; then return 1; fi; }

# upgrade COMMAND... upgrades while ingest runs and a program writes lines. All lines must
# arrive, in the same process and through the same FIFO.
upgrade() {
  local before written writer
  echo 'STATE=booted' >"$fifo"
  await in_state booted
  before=$(running)
  rm -f /run/upgraded
  (
    for ((i = 1; ; i++)); do
      echo "KIND=booted MESSAGE=line-$i" >"$fifo"
      if [[ -e /run/upgraded ]]; then break; fi
      sleep 0.01
    done
    echo "$i" >/run/written
  ) &
  writer=$!
  "$@"
  sleep 0.1
  touch /run/upgraded
  wait "$writer"
  written=$(</run/written)
  ((written >= 3))
  await grep -q "\"line-$written\"" "$state/events.jsonl"
  diff <(jq -r '.message | select(startswith("line-"))' "$state/events.jsonl") <(seq -f line-%.0f "$written")
  echo "$written lines during: $*" >>"$out/upgrades"
  [[ $(running) == "$before" ]]
  [[ $(systemctl show --value -p NeedDaemonReload "$socket" "$service" | xargs) == 'no no' ]]
  [[ $(pika-cloud-lifecycle --version | head -n 1) == "pika-cloud-lifecycle $(</opt/lab/new/version)" ]]

  # The next ingest is the new one.
  systemctl stop "$service"
  rm -r "$state"/*.json*
  echo 'STATE=starting' >"$fifo"
  await in_state starting
  [[ $(readlink "/proc/$(systemctl show --value -p MainPID "$service")/exe") == /usr/bin/pika-cloud-lifecycle ]]
}
running() { systemctl show -p MainPID -p InvocationID "$socket" "$service"; stat -c '%i %A' "$fifo"; }

# removed COMMAND... removes the package. The state directory stays.
removed() {
  cp "$state/status.json" /run/status
  rm -f "$state/result.json"
  "$@"
  [[ -e $state/status.json && -e $state/result.json ]] # the run has ended, and was not deleted
  no active "$socket" active
  no active "$service" active
  no explained
  [[ ! -e /usr/bin/pika-cloud-lifecycle ]]
}

left >"$out/before"
rm -f /usr/sbin/policy-rc.d # in many containers it prevents the start of services

# deb
dpkg -i $old.deb
enabled $socket enabled
active $socket active
explained
[[ $(stat -c '%A %U %G' "$state") == 'drwxr-xr-x root root' ]]
upgrade dpkg -i $new.deb
removed dpkg -r pika-cloud-lifecycle
dpkg -i $new.deb
active $socket active
echo 'STATE=ready' >"$fifo"
await in_state ready
removed dpkg -P pika-cloud-lifecycle
left | diff "$out/before" -

# A socket that an administrator has disabled stays off.
dpkg -i $old.deb
systemctl disable --now $socket
dpkg -i $new.deb
enabled $socket disabled
active $socket inactive
systemctl enable pika-cloud-fleet@0123.service
dpkg -P pika-cloud-lifecycle
left | diff "$out/before" -

# In a directory for an image, systemd does not run.
cat >/run/image.sh <<END
set -e
mount -t tmpfs image /run
dpkg -i $new.deb
test -p $fifo && exit 1
test -d $state
pika-cloud-lifecycle --version
END
unshare --mount bash /run/image.sh >"$out/image" 2>&1
enabled $socket enabled
active $socket inactive
dpkg -P pika-cloud-lifecycle

# rpm, with the presets of Fedora
if command -v rpm >/dev/null; then
  mkdir -p /etc/systemd/system-preset
  echo 'disable *' >/etc/systemd/system-preset/99-default.preset
  with_rpm() { rpm --force-debian --nodeps --dbpath /run/rpm "$@"; }
  with_rpm -i $old.rpm
  enabled $socket disabled
  active $socket inactive
  explained
  systemctl enable --now $socket
  upgrade with_rpm -U $new.rpm
  enabled $socket enabled
  systemctl enable pika-cloud-fleet@0123.service
  removed with_rpm -e pika-cloud-lifecycle
  left | diff "$out/before" -
fi
