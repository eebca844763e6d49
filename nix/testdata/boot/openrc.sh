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
if [[ ! -e /etc/init.d/localmount ]]; then # Debian's openrc has none
  printf '#!/sbin/openrc-run\nstart() { :; }\n' >/etc/init.d/localmount
  chmod 755 /etc/init.d/localmount
fi
echo 'fifo_owner=root:adm fifo_mode=0620' >>/etc/conf.d/$service

rc-service $service start
stat -c '%A %U %G' "$state" "$fifo" >"$out/modes"
echo STATE=booted >"$fifo"
reaches booted

# If ingest dies, supervise-daemon starts it again. A program that writes in the meantime
# waits. supervise-daemon is stopped until all threads of ingest have closed the FIFO.
supervisor=$(</run/$service.pid)
ingest=$(pgrep -P "$supervisor")
kill -STOP "$supervisor"
kill -KILL "$ingest"
dead() { [[ $(cut -d' ' -f3 /proc/"$ingest"/task/*/stat) == Z ]]; }
await dead
echo STATE=ready >"$fifo" &
kill -CONT "$supervisor"
wait "$!"
await in_state ready
rc-service $service status

rc-service $service stop
keep ended
[[ -p $fifo ]]

# A program that writes while the service is stopped waits. Its line is not lost.
echo STATE=booted >"$fifo" &
sleep 0.5
rc-service $service start
await in_state booted

# A regular file at the path of the FIFO.
rc-service $service stop
rm "$fifo"
echo STATE=lost >"$fifo"
rc-service $service start 2>&1 | grep -F "$fifo.unread"
[[ $(<"$fifo.unread") == STATE=lost ]]
echo STATE=booted >"$fifo"
await in_state booted

rc-update add $service boot
/.pre-deinstall
pgrep -f 'pika-cloud-lifecycle ingest' >"$out/left" || :
[[ -e $state/status.json && ! -e /etc/runlevels/boot/$service ]]
