#!/usr/bin/env bash
# hostile.sh is a job that tries to forge its result, or to prevent it. It lists what it
# was able to do in artifacts/can.
state=/run/pika-cloud
forged='{"schema_version":1,"status":"completed","exit_code":0,"finished_at":"2026-01-01T00:00:00Z","message":"forged"}'

can() { echo "$*" >>$state/artifacts/can; }
can start

# Attack the state directory.
for file in status.json events.jsonl result.json events.jsonl.seq new; do
  { echo "$forged" >$state/$file; } 2>/dev/null && can write $file
  [[ -e $state/$file ]] && rm -f $state/$file 2>/dev/null && can remove $file
  ln -sf /dev/null $state/$file 2>/dev/null && can link $file
  mv $state/$file $state/other 2>/dev/null && can move $file
  { exec 9<$state/$file; } 2>/dev/null && [[ $file == *.seq ]] && can open $file
  exec 9<&-
done
mv $state/logs $state/mine 2>/dev/null && can move logs
rmdir $state/artifacts 2>/dev/null && can remove artifacts

# Attack the stream.
for fd in /proc/self/fd/*; do
  number=${fd##*/}
  ((number > 2)) && [[ $(readlink "$fd") == *pipe* ]] && can reach "descriptor $number"
done
for fd in /proc/[0-9]*/fd/*; do
  [[ $fd == /proc/$$/* || $fd == /proc/self/* ]] && continue
  owner=$(stat -c %U "${fd%/fd/*}" 2>/dev/null)
  [[ $owner == root ]] && { echo 'STATE=completed MESSAGE=forged' >"$fd"; } 2>/dev/null && can write "$fd"
done

# Attack the processes.
for process in $(pgrep -f 'pika-cloud-lifecycle|ci-job.py'); do
  kill -KILL "$process" 2>/dev/null && can kill "$process"
done
systemctl stop pika-cloud-ci.service 2>/dev/null && can stop the unit
systemd-notify --status=forged 2>/dev/null && can notify
NOTIFY_SOCKET=/run/systemd/notify systemd-notify WATCHDOG=trigger 2>/dev/null

# Attack the next job, and the space for the artifacts.
rm -f $state/logs/guest.log
ln -s ../status.json $state/logs/guest.log
setsid sleep infinity &
python3 - <<'END'
import os
import time

try:
    for _ in range(300):
        if os.fork() == 0:
            time.sleep(1000)
except OSError:
    pass
else:
    open("/run/pika-cloud/artifacts/can", "a").write("start any number of processes\n")
END
for place in artifacts logs; do
  head -c 2M /dev/zero >$state/$place/full 2>/dev/null
  (($(stat -c %s $state/$place/full) < 2 * 1024 * 1024)) || mv $state/$place/full $state/$place/larger-than-allowed
done
exit 3
