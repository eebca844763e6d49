package notify

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func newForwarder(t *testing.T, socket string) *Forwarder {
	t.Helper()
	f, err := NewForwarder(socket)
	testenv.Must(t, err)
	t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// READY=1 and RELOADING=1 are forwarded only for a reload of a guest that systemd knows as
// ready. The rest is forwarded at any time.
func TestForwarder(t *testing.T) {
	m := newManager(t, false)
	f := newForwarder(t, m.path)
	sent := func(ready bool) (withReady bool) {
		testenv.Must(t, f.sendStatus(ready, func(r bool) error { withReady = r; return nil }))
		return withReady
	}
	f.Forward("RELOADING=1\nMONOTONIC_USEC=1")
	f.Forward("READY=1")
	f.Forward("READY=1\nWATCHDOG=1")
	m.receives("WATCHDOG=1")
	if !sent(true) {
		t.Error("READY=1 is missing")
	}
	f.Forward("READY=1")
	f.Forward("RELOADING=1\nMONOTONIC_USEC=2\nEXTEND_TIMEOUT_USEC=3")
	m.receives("RELOADING=1\nMONOTONIC_USEC=2\nEXTEND_TIMEOUT_USEC=3")
	if sent(true) {
		t.Error("READY=1 ends the reload too early")
	}
	f.Forward("READY=1")
	m.receives("READY=1")
	f.Forward("READY=1")
	f.Forward("EXTEND_TIMEOUT_USEC=4")
	m.receives("EXTEND_TIMEOUT_USEC=4")
	if !sent(true) || sent(false) {
		t.Error("READY=1 does not follow the state")
	}
}

// A status that could not be sent does not make systemd know that the guest is ready.
func TestForwarder_status_not_sent(t *testing.T) {
	m := newManager(t, false)
	f := newForwarder(t, m.path)
	_ = f.sendStatus(true, func(bool) error { return os.ErrDeadlineExceeded })
	f.Forward("RELOADING=1")
	f.Forward("WATCHDOG=1")
	m.receives("WATCHDOG=1")
}

// While systemd reads nothing, Forward does not block. It keeps the newest assignments, and
// Retry sends them.
func TestForwarder_queue_full(t *testing.T) {
	path := testenv.PlainDir(t) + "/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	testenv.Must(t, err)
	defer conn.Close()
	f := newForwarder(t, path)
	testenv.Must(t, f.sendStatus(true, func(bool) error { return nil }))
	for i := range 2000 {
		f.Forward(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", i))
		f.Forward("WATCHDOG=1")
		f.Forward("RELOADING=1\nMONOTONIC_USEC=5")
		f.Forward("READY=1")
	}
	if !f.Retry() || len(f.unsent) != 4 {
		t.Errorf("%d datagrams are kept: %q", len(f.unsent), f.unsent)
	}
	var got []string
	buf := make([]byte, 1000)
	for {
		testenv.Must(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		n, err := conn.Read(buf)
		if err != nil {
			break
		}
		got = append(got, string(buf[:n]))
		f.Retry()
	}
	want := []string{"EXTEND_TIMEOUT_USEC=1999", "WATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=5", "READY=1"}
	if f.Retry() || len(got) < 4 || !slices.Equal(got[len(got)-4:], want) {
		t.Errorf("received last is %q, want %q", got[max(0, len(got)-4):], want)
	}
}

// What arrives while READY=1 is being sent, also for the first time, is sent after it.
func TestForwarder_order(t *testing.T) {
	m := newManager(t, false)
	f := newForwarder(t, m.path)
	s := systemd{socket: m.path, forwarder: f}
	testenv.Must(t, f.sendStatus(true, func(ready bool) error {
		f.Forward("RELOADING=1\nMONOTONIC_USEC=5")
		return s.sendDatagram("STATUS=ready: x\nREADY=1", nil)
	}))
	var got []string
	for range 2 {
		got = append(got, m.next())
	}
	if text := strings.Join(got, "; "); text != "STATUS=ready: x\nREADY=1; RELOADING=1\nMONOTONIC_USEC=5" {
		t.Errorf("systemd receives %q", text)
	}
}
