package notify

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The variables mean the same as for sd_watchdog_enabled(3).
func TestWatchdog(t *testing.T) {
	here, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid())
	for name, c := range map[string]struct {
		usec, pid string
		interval  time.Duration
		invalid   bool
	}{
		"none":            {"", here, 0, false},
		"this process":    {"3000000", here, 1500 * time.Millisecond, false},
		"any process":     {"3000000", "", 1500 * time.Millisecond, false},
		"another process": {"3000000", other, 0, false},
		"short":           {"1", "", 500 * time.Nanosecond, false},
		"zero":            {"0", here, 0, true},
		"negative":        {"-1", here, 0, true},
		"infinity":        {"18446744073709551615", here, 0, true},
		"not a number":    {"1s", here, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := Watchdog("/nowhere", c.usec, c.pid)
			if w.Interval != c.interval || (err != nil) != c.invalid {
				t.Errorf("the interval is %v, the error %v", w.Interval, err)
			}
			if c.interval > 0 && w.Alive() {
				t.Error("Alive returns true although the socket is missing")
			}
		})
	}
}

// Alive does not wait while the queue of the service manager is full.
func TestWatchdog_full_queue(t *testing.T) {
	path := testenv.PlainDir(t) + "/notify"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	testenv.Must(t, err, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	defer unix.Close(fd)
	w, err := Watchdog(path, "1000", "")
	testenv.Must(t, err)
	sent := 0
	for w.Alive() {
		sent++
	}
	buf := make([]byte, 100)
	n, err := unix.Read(fd, buf)
	testenv.Must(t, err)
	if string(buf[:n]) != "WATCHDOG=1" || sent == 0 {
		t.Errorf("received %q, after %d were sent", buf[:n], sent)
	}
	if !w.Alive() {
		t.Error("Alive returns false although the queue has space again")
	}
}
