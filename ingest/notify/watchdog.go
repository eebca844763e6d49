package notify

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// Watchdog returns how a stream keeps the watchdog of its unit alive. socket, usec and
// pid are the values of $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID. The Watchdog is
// the zero value if systemd has set no watchdog for this process, and Watchdog returns an
// error if usec is invalid (sd_watchdog_enabled(3)).
//
// It uses one descriptor, which stays open: at the limit of open files the stream could
// not open another.
func Watchdog(socket, usec, pid string) (ingest.Watchdog, error) {
	if usec == "" || (pid != "" && pid != strconv.Itoa(os.Getpid())) {
		return ingest.Watchdog{}, nil
	}
	n, err := strconv.ParseUint(usec, 10, 53) // 285 years
	if err != nil || n == 0 {
		return ingest.Watchdog{}, fmt.Errorf("$WATCHDOG_USEC is %q; expected microseconds, from 1 to %d", usec, uint64(1<<53-1))
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ingest.Watchdog{}, fmt.Errorf("create a socket: %w", err)
	}
	return ingest.Watchdog{
		Interval: time.Duration(n) * time.Microsecond / 2,
		Alive: func() bool {
			// The stream must not wait for systemd.
			err := unix.Sendto(fd, []byte("WATCHDOG=1"), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket})
			return err == nil
		},
	}, nil
}
