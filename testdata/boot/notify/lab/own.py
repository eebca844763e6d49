# own.py SECONDS: notifies systemd as a service does, with libsystemd, and keeps the
# watchdog alive for some seconds. Then it exits if SECONDS is not 0, and otherwise hangs.
import ctypes
import sys
import time

systemd = ctypes.CDLL("libsystemd.so.0")
usec = ctypes.c_uint64()
enabled = systemd.sd_watchdog_enabled(0, ctypes.byref(usec))
with open("/opt/lab/own-" + sys.argv[1], "w") as out:
    print(enabled, usec.value, file=out)
systemd.sd_notify(0, b"READY=1\nSTATUS=from the command")
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    systemd.sd_notify(0, b"WATCHDOG=1")
    time.sleep(0.2)
if float(sys.argv[1]) == 0:
    time.sleep(1000)
