package ready

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A guest is a stream whose command never ends before end is called.
type guest struct {
	t       *testing.T
	dir     string
	reports *ingest.Reports
	input   *os.File
	done    chan bool
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	reports, err := ingest.NewReports()
	testenv.Must(t, err)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	g := &guest{t: t, dir: testenv.TempDir(t), reports: reports, input: w, done: make(chan bool)}
	s := ingest.Stream{Dir: writer.In(g.dir), In: int(r.Fd()), Reports: reports,
		Clock: func() ingest.Moment { return ingest.Moment{Time: time.Now()} }}
	_, err = w.WriteString("STATE=starting\n")
	testenv.Must(t, err)
	go func() {
		defer close(g.done)
		defer r.Close()
		_, err := s.Run()
		if err != nil {
			t.Error(err)
		}
	}()
	g.waitFor("starting", func() bool { return strings.Contains(g.status(), "starting") })
	t.Cleanup(g.end)
	return g
}

// end ends the stream.
func (g *guest) end() {
	g.input.Close()
	<-g.done
}

func (g *guest) status() string { return testenv.ReadIfExists(g.t, g.dir+"/status.json") }
func (g *guest) events() string { return testenv.ReadIfExists(g.t, g.dir+"/events.jsonl") }

func (g *guest) waitFor(what string, is func() bool) {
	g.t.Helper()
	for late := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			g.t.Fatalf("timed out: %s\n%s%s", what, g.status(), g.events())
		}
	}
}

// await waits until all reports are committed.
func (g *guest) await() {
	g.t.Helper()
	var done sync.Mutex
	called := false
	g.reports.AfterCommit(func() { done.Lock(); called = true; done.Unlock() })
	g.waitFor("commit", func() bool { done.Lock(); defer done.Unlock(); return called })
}

func anyone(pid, uid int) bool { return true }

// newSocket returns a socket that handles datagrams only when handleAll is called. It stays
// open until the process ends, because Receive does not end: its poll(2) would keep the next
// file with the same number open.
func (g *guest) newSocket(isOurs func(pid, uid int) bool, f Forwarder) *Socket {
	g.t.Helper()
	s, err := NewSocket(g.reports, isOurs, f)
	testenv.Must(g.t, err)
	return s
}

// handleAll handles what has arrived at a socket that was not started.
func (s *Socket) handleAll() {
	for s.next() {
	}
}

// send sends a datagram to a socket.
func send(t *testing.T, to *Socket, text string, fds ...int) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	testenv.Must(t, err)
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: to.Name}, unix.MSG_DONTWAIT)
}

func newPipe(t *testing.T) (r *os.File, w int) {
	t.Helper()
	var fds [2]int
	testenv.Must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	r = os.NewFile(uintptr(fds[0]), "pipe")
	t.Cleanup(func() { r.Close() })
	return r, fds[1]
}

// isClosed reports whether no write end of the pipe is open.
func isClosed(t *testing.T, r *os.File) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	testenv.Must(t, err)
	return fds[0].Revents&unix.POLLHUP != 0
}

// Each datagram has the effect that systemd's manager would see.
func TestParse(t *testing.T) {
	status := func(text string) *string { return &text }
	for _, c := range []struct {
		text string
		want message
		ok   bool
	}{
		{"", message{}, true},
		{"READY=1", message{ready: true, forwarded: "READY=1"}, true},
		{"READY=1\n", message{ready: true, forwarded: "READY=1"}, true},
		{"READY=1\x00", message{ready: true, forwarded: "READY=1"}, true},
		{"\n\nREADY=1\r\nMAINPID=12\nX_OURS=1", message{ready: true, forwarded: "READY=1"}, true},
		{"READY=1\x00\x00", message{}, false},
		{"READY=1\nSTATUS=a\x00b", message{}, false},
		{"READY=0", message{}, true},
		{"READY=11", message{}, true},
		{" READY=1", message{}, true},
		{"ready=1", message{}, true},
		{"XREADY=1", message{}, true},
		{"STATUS=READY=1", message{status: status("READY=1")}, true},
		{"STATUS=a b=c\nREADY=1", message{ready: true, status: status("a b=c"), forwarded: "READY=1"}, true},
		{"STATUS=\nSTATUS=b", message{status: status("")}, true},
		{"STATUS=a\rREADY=1", message{ready: true, status: status("a"), forwarded: "READY=1"}, true},
		{"STATUS=a\x85\xffb", message{status: status("a\x85\xffb")}, true},
		{"STOPPING=1\nREADY=1\nRELOADING=1", message{}, true},
		{"RELOADING=1\nREADY=1\nMONOTONIC_USEC=5", message{ready: true, forwarded: "READY=1"}, true},
		{"RELOADING=1\nMONOTONIC_USEC=5", message{forwarded: "RELOADING=1\nMONOTONIC_USEC=5"}, true},
		{"RELOADING=1\nMONOTONIC_USEC=x", message{forwarded: "RELOADING=1"}, true},
		{"EXTEND_TIMEOUT_USEC=1000000\nWATCHDOG=1", message{forwarded: "EXTEND_TIMEOUT_USEC=1000000\nWATCHDOG=1"}, true},
		{"EXTEND_TIMEOUT_USEC=-1", message{}, true},
		{"EXTEND_TIMEOUT_USEC=99999999999999999999", message{}, true},
		{"WATCHDOG=trigger\nWATCHDOG_USEC=5\nFDSTORE=1\nERRNO=2\nBUSERROR=x\nNOTIFYACCESS=all\nMONOTONIC_USEC=5", message{}, true},
		{"BARRIER=1", message{barrier: true}, true},
		{"BARRIER=1\nREADY=1", message{barrier: true}, false},
		{"BARRIER=0\nREADY=1", message{ready: true, forwarded: "READY=1"}, true},
	} {
		got, ok := parse([]byte(c.text))
		text := func(m message) string {
			status := "none"
			if m.status != nil {
				status = fmt.Sprintf("%q", *m.status)
			}
			return fmt.Sprintf("barrier %v, ready %v, status %s, forwarded %q", m.barrier, m.ready, status, m.forwarded)
		}
		if ok != c.ok || (ok && text(got) != text(c.want)) {
			t.Errorf("%q: %s, %v; want %s, %v", c.text, text(got), ok, text(c.want), c.ok)
		}
	}
}

// A socket has an abstract name, asks for credentials, and is not inherited.
func TestSocket_new(t *testing.T) {
	g := newGuest(t)
	var pids, uids []int
	s := g.newSocket(func(pid, uid int) bool { pids, uids = append(pids, pid), append(uids, uid); return true }, nil)
	if !strings.HasPrefix(s.Name, "@") || len(s.Name) != 6 {
		t.Errorf("the name is %q", s.Name)
	}
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the socket can be inherited (%v)", err)
	}
	testenv.Must(t, send(t, s, "READY=1"))
	s.handleAll()
	if fmt.Sprint(pids, uids) != fmt.Sprintf("[%d] [%d]", os.Getpid(), os.Geteuid()) {
		t.Errorf("the sender is %v of %v", pids, uids)
	}
	g.await()
	if !strings.Contains(g.status(), `"state": "ready"`) {
		t.Errorf("the status is %s", g.status())
	}
}

// Datagrams that systemd ignores are ignored: of strangers, too long, with NUL.
func TestSocket_ignored(t *testing.T) {
	g := newGuest(t)
	ours := true
	s := g.newSocket(func(int, int) bool { return ours }, nil)
	long := "READY=1\nSTATUS=" + strings.Repeat("x", maxDatagram)
	testenv.Must(t, send(t, s, long[:maxDatagram+1]), send(t, s, long), send(t, s, "READY=1\x00\x00"))
	s.handleAll()
	ours = false
	testenv.Must(t, send(t, s, "READY=1\nSTATUS=forged"))
	s.handleAll()
	g.await()
	if strings.Contains(g.status(), "ready") || strings.Contains(g.status(), "forged") {
		t.Errorf("the status is %s", g.status())
	}
	ours = true
	testenv.Must(t, send(t, s, long[:maxDatagram]))
	s.handleAll()
	g.await()
	if !strings.Contains(g.status(), `"state": "ready"`) || !strings.Contains(g.status(), "xxx") {
		t.Errorf("a datagram of %d bytes is ignored", maxDatagram)
	}
}

// BARRIER=1 with one descriptor is answered after the commit. All other descriptors are
// closed, also those of a stranger and of a datagram that is ignored.
func TestSocket_descriptors(t *testing.T) {
	for _, c := range []struct {
		text  string
		fds   int
		ready bool // the datagram counts although its descriptors do not
	}{
		{"BARRIER=1", 0, false},
		{"BARRIER=1", 1, false},
		{"BARRIER=1", 2, false},
		{"BARRIER=1", 3, false},
		{"BARRIER=1", 253, false},
		{"BARRIER=1\nREADY=1", 1, false},
		{"READY=1\nFDSTORE=1", 1, true},
		{"READY=1\nFDSTORE=1\nFDNAME=x", 200, true},
		{"READY=1\x00\x00", 1, false},
		{strings.Repeat("x", 5000), 1, false},
	} {
		for _, ours := range []bool{true, false} {
			g := newGuest(t)
			s := g.newSocket(func(int, int) bool { return ours }, nil)
			r, w := newPipe(t)
			var fds []int
			for range c.fds {
				fds = append(fds, w)
			}
			testenv.Must(t, send(t, s, c.text, fds...))
			unix.Close(w)
			s.handleAll()
			g.waitFor("the descriptors are closed", func() bool { return isClosed(t, r) })
			g.await()
			if got := strings.Contains(g.status(), `"ready"`); got != (c.ready && ours) {
				t.Errorf("%.20q with %d descriptors, ours %v: ready is %v", c.text, c.fds, ours, got)
			}
		}
	}
}

// BARRIER=1 with several descriptors is no barrier: nothing waits for the commit.
func TestSocket_barrier_descriptors(t *testing.T) {
	reports, err := ingest.NewReports() // no stream takes them
	testenv.Must(t, err)
	s, err := NewSocket(reports, anyone, nil)
	testenv.Must(t, err)
	for n, want := range map[int]int{0: 0, 1: 1, 2: 0, 3: 0, 100: 0} {
		r, w := newPipe(t)
		fds := make([]int, n)
		for i := range fds {
			fds[i] = w
		}
		before := int(s.barriers.Load())
		testenv.Must(t, send(t, s, "BARRIER=1", fds...))
		unix.Close(w)
		s.handleAll()
		if got := int(s.barriers.Load()) - before; got != want || isClosed(t, r) != (want == 0) {
			t.Errorf("%d descriptors: %d barriers wait, closed %v", n, got, isClosed(t, r))
		}
	}
}

// BARRIER=1 is answered only after the commit of what was sent before.
func TestSocket_barrier(t *testing.T) {
	g := newGuest(t)
	s := g.newSocket(anyone, nil)
	for i := range 20 {
		text := fmt.Sprintf("step %d", i)
		r, w := newPipe(t)
		testenv.Must(t, send(t, s, "STATUS="+text), send(t, s, "BARRIER=1", w))
		unix.Close(w)
		if i == 0 {
			go s.Receive()
		}
		_, _ = r.Read(make([]byte, 1))
		if !strings.Contains(g.status(), text) {
			t.Fatalf("%s is not on disk after the barrier:\n%s", text, g.status())
		}
	}
}

// At the limit of barriers nothing is received, so the descriptors that a sender can make
// this process open are limited. Drain then waits for the stream, but not long.
func TestSocket_barrier_limit(t *testing.T) {
	t.Parallel()
	reports, err := ingest.NewReports() // no stream takes them
	testenv.Must(t, err)
	s, err := NewSocket(reports, anyone, nil)
	testenv.Must(t, err)
	go s.Receive()
	r, w := newPipe(t)
	for i := 0; i < 1000; i++ {
		err := send(t, s, "BARRIER=1", w)
		if err == unix.EAGAIN {
			if s.isBusy() {
				break
			}
			time.Sleep(time.Millisecond)
			continue
		}
		testenv.Must(t, err)
	}
	unix.Close(w)
	s.Drain()
	if n := s.barriers.Load(); n != maxBarriers || isClosed(t, r) {
		t.Errorf("%d barriers wait, want %d", n, maxBarriers)
	}
	// Each answer admits another one.
	in, end, err := os.Pipe()
	testenv.Must(t, err)
	stream := ingest.Stream{Dir: writer.In(testenv.TempDir(t)), In: int(in.Fd()), Reports: reports,
		Clock: func() ingest.Moment { return ingest.Moment{Time: time.Now()} }}
	done := make(chan bool)
	go func() { _, _ = stream.Run(); close(done) }()
	for late := time.Now().Add(time.Minute); !isClosed(t, r); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the barriers are not answered")
		}
	}
	end.Close()
	<-done
}

// What was sent after more barriers than the limit is handled when Drain returns.
func TestSocket_drain_after_barriers(t *testing.T) {
	g := newGuest(t)
	s := g.newSocket(anyone, nil)
	go s.Receive()
	const n = 5*maxBarriers + 1
	for i := range n {
		text, fds := "READY=1", []int(nil)
		r, w := newPipe(t)
		if i < n-1 {
			text, fds = "BARRIER=1", []int{w}
		}
		for send(t, s, text, fds...) == unix.EAGAIN {
			time.Sleep(time.Millisecond)
		}
		unix.Close(w)
		r.Close()
	}
	s.Drain()
	if got := s.handled.Load(); got != n {
		t.Errorf("%d datagrams are handled, want %d", got, n)
	}
}

// Drain waits for all datagrams that the kernel has kept for the socket, and ends although
// others arrive.
func TestSocket_drain(t *testing.T) {
	g := newGuest(t)
	flooding := true
	var s *Socket
	s = g.newSocket(func(int, int) bool {
		if flooding {
			_ = send(t, s, "WATCHDOG=1")
		}
		return true
	}, nil)
	queued := 0
	for send(t, s, "WATCHDOG=1") == nil {
		queued++
	}
	go s.Receive()
	s.Drain()
	s.mu.Lock()
	flooding = false
	s.mu.Unlock()
	if got := s.handled.Load(); got < int64(queued) || s.gaveUp {
		t.Errorf("%d datagrams are handled, %d were in the queue; gave up: %v", got, queued, s.gaveUp)
	}
}

// newLingering returns a TCP socket whose close(2) waits until stop is called, or the test
// ends.
func newLingering(t *testing.T) (fd int, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		testenv.Missing(t, "a TCP socket on 127.0.0.1: %v", err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	testenv.Must(t, err)
	peer, err := l.Accept()
	testenv.Must(t, err)
	t.Cleanup(func() { peer.Close() })
	f, err := c.(*net.TCPConn).File()
	testenv.Must(t, err)
	c.Close()
	fd, err = unix.Dup(int(f.Fd()))
	testenv.Must(t, err, f.Close(), unix.SetNonblock(fd, true),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 600}))
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 64<<10))
	}
	return fd, func() { peer.Close() }
}

// A passed descriptor whose last close(2) waits delays neither the stream nor the reaping of
// children. The datagram may be of any process.
func TestSocket_linger(t *testing.T) {
	for _, c := range []struct {
		text string
		ours bool
	}{{"BARRIER=1", true}, {"READY=1", true}, {"X=1", false}} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			s := g.newSocket(func(int, int) bool { return c.ours }, nil)
			fd, stop := newLingering(t)
			testenv.Must(t, send(t, s, c.text, fd), unix.Close(fd))
			go s.Receive()
			done := make(chan bool)
			go func() {
				for range 10 {
					s.Drain()
				}
				done <- s.gaveUp
			}()
			select {
			case gaveUp := <-done:
				if !gaveUp {
					t.Errorf("%s: close(2) does not wait", c.text)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: Drain waits", c.text)
			}
			g.await()
			stop()
		})
	}
}

// A fakeForwarder records what is forwarded.
type fakeForwarder struct {
	got  []string
	left bool
}

func (f *fakeForwarder) Forward(text string) { f.got = append(f.got, text) }
func (f *fakeForwarder) Retry() bool         { return f.left }

// Only the assignments for the service manager are forwarded, and only those of descendants.
func TestSocket_forward(t *testing.T) {
	g := newGuest(t)
	f := new(fakeForwarder)
	ours := true
	s := g.newSocket(func(int, int) bool { return ours }, f)
	for _, text := range []string{"STATUS=x", "WATCHDOG=1", "MAINPID=1", "EXTEND_TIMEOUT_USEC=5\nX=1", "STOPPING=1"} {
		testenv.Must(t, send(t, s, text))
		s.handleAll()
	}
	ours = false
	testenv.Must(t, send(t, s, "WATCHDOG=1"))
	s.handleAll()
	if got := strings.Join(f.got, "; "); got != "WATCHDOG=1; EXTEND_TIMEOUT_USEC=5" {
		t.Errorf("forwarded are %s", got)
	}
}

// newLine returns a Line and a function that returns its warnings.
func (g *guest) newLine() (l *Line, warnings func() string) {
	g.t.Helper()
	var mu sync.Mutex
	var all []string
	l, err := NewLine(g.reports, func(text string) { mu.Lock(); all = append(all, text); mu.Unlock() })
	testenv.Must(g.t, err)
	return l, func() string { mu.Lock(); defer mu.Unlock(); return strings.Join(all, "\n") }
}

// The first line means ready. Its start is in the message.
func TestLine(t *testing.T) {
	for _, c := range []struct{ name, text, message, warning string }{
		{"s6", "\n", "ready", ""},
		{"text", "unix:path=/tmp/x\n", "ready: unix:path=/tmp/x", ""},
		{"CR LF", "0\r\n", "ready: 0", ""},
		{"more lines", "a\nb\nc", "ready: a", ""},
		{"not UTF-8", "\xff\x00\n", `ready: ` + "\uFFFD" + `\u0000`, ""},
		{"long", strings.Repeat("€", 1<<20) + "\n", "ready: " + strings.Repeat("€", 333) + "…", ""},
		{"as long as possible", strings.Repeat("x", maxText) + "\n", "ready: " + strings.Repeat("x", maxText), ""},
		{"nothing", "", "", "before a line was written"},
		{"no newline", "unix:path", "", "before the end of the first line"},
		{"no newline in megabytes", strings.Repeat("x", 3<<20), "", "before the end of the first line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			l, warnings := g.newLine()
			go l.Receive()
			w := os.NewFile(uintptr(l.Write), "pipe")
			_, err := w.WriteString(c.text)
			testenv.Must(t, err)
			if c.message != "" {
				g.waitFor("ready", func() bool { return strings.Contains(g.status(), `"state": "ready"`) })
			}
			testenv.Must(t, w.Close())
			g.waitFor("end", l.hasEnded)
			g.await()
			if want := `"message": "` + c.message + `"`; c.message != "" && !strings.Contains(g.status(), want) {
				t.Errorf("the status is %s, want %s", g.status(), want)
			}
			if c.message == "" && strings.Contains(g.events(), `"ready"`) {
				t.Errorf("ready is recorded: %s", g.events())
			}
			if !strings.Contains(warnings(), c.warning) || (c.warning == "") != (warnings() == "") {
				t.Errorf("warnings are %q, want %q", warnings(), c.warning)
			}
			if len(l.text) > maxText || cap(l.text) > 4*maxText {
				t.Errorf("%d bytes of the line are kept", cap(l.text))
			}
		})
	}
}

// What follows the first line is read, so the service does not block.
func TestLine_rest_discarded(t *testing.T) {
	g := newGuest(t)
	l, _ := g.newLine()
	go l.Receive()
	w := os.NewFile(uintptr(l.Write), "pipe")
	defer w.Close()
	for range 64 {
		_, err := w.WriteString(strings.Repeat("log line\n", 1<<13))
		testenv.Must(t, err)
	}
	g.await()
	if n := strings.Count(g.events(), "\n"); n != 2 || !strings.Contains(g.status(), `"message": "ready: log line"`) {
		t.Errorf("%d events, %s", n, g.status())
	}
}

// Drain reads the line of a service that has ended. It does not wait for one that runs.
func TestLine_drain(t *testing.T) {
	g := newGuest(t)
	l, _ := g.newLine() // not started
	w := os.NewFile(uintptr(l.Write), "pipe")
	defer w.Close()
	l.Drain()
	_, err := w.WriteString(strings.Repeat("x", 50000) + "\n")
	testenv.Must(t, err)
	l.Drain()
	g.await()
	if !strings.Contains(g.status(), `"state": "ready"`) {
		t.Errorf("the status is %s", g.status())
	}
}
