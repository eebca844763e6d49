#!/usr/bin/env bash
# openrc.sh starts the OpenRC service of the apk package, whose files it unpacks.
# shellcheck source=lab.sh source-path=SCRIPTDIR
. /opt/lab/lab.sh
service=pika-cloud-lifecycle
fifo=$state/lifecycle.fifo

tar -C / --warning=no-unknown-keyword -xzf /opt/lab/new/pika-cloud-lifecycle.apk

# What OpenRC creates when it boots a system.
mkdir -p /run/openrc/{daemons,exclusive,failed,hotplugged,inactive,options,scheduled,started,starting,stopping,tmp,wasinactive}
touch /run/openrc/softlevel
echo 'fifo_owner=root:adm fifo_mode=0620' >>/etc/conf.d/$service

rc-service $service start
stat -c '%A %U %G' "$state" "$fifo" >"$out/modes"
echo STATE=booted >"$fifo"
reaches booted

# If ingest dies, supervise-daemon starts it again. Lines wait in the meantime.
kill -KILL "$(pgrep -f 'pika-cloud-lifecycle ingest' | tail -n 1)"
echo STATE=ready >"$fifo"
reaches ready
rc-service $service status

rc-service $service stop
keep ended
[[ -p $fifo ]]
rc-service $service start
echo STATE=booted >"$fifo"
await in_state booted

rc-update add $service boot
/.pre-deinstall
pgrep -f 'pika-cloud-lifecycle ingest' >"$out/left" || :
[[ -e $state/status.json && ! -e /etc/runlevels/boot/$service ]]
