package notify

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// commit notifies n of a commit with this status.
func commit(n *Notifier, state artifact.State, message string) {
	n.Committed(commitOf(state, message, state == artifact.Ready))
}

func commitOf(state artifact.State, message string, ready bool) *ingest.Commit {
	return &ingest.Commit{Ready: ready, Status: &artifact.Status{State: state, Message: strictjson.AppendText(nil, message)}}
}

// A manager is a fake service manager. It closes the descriptors that it receives with
// a datagram as soon as it has received all datagrams before, unless it keeps them.
type manager struct {
	*testing.T
	path     string
	received chan string
}

func newManager(t *testing.T, keepDescriptors bool) *manager {
	t.Helper()
	m := &manager{t, filepath.Join(testenv.PlainDir(t), "notify"), make(chan string, 100)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	testenv.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		defer close(m.received)
		buf, rights := make([]byte, 8192), make([]byte, 128)
		for {
			n, nRights, _, _, err := conn.ReadMsgUnix(buf, rights)
			if err != nil {
				return
			}
			m.received <- string(buf[:n])
			messages, _ := unix.ParseSocketControlMessage(rights[:nRights])
			for i := range messages {
				fds, _ := unix.ParseUnixRights(&messages[i])
				for _, fd := range fds {
					if keepDescriptors {
						t.Cleanup(func() { unix.Close(fd) })
					} else {
						unix.Close(fd)
					}
				}
			}
		}
	}()
	return m
}

// receives reads the next datagram and compares it.
func (m *manager) receives(want string) {
	m.Helper()
	if got := m.next(); got != want {
		m.Errorf("received %q, want %q", got, want)
	}
}

func (m *manager) next() string {
	m.Helper()
	select {
	case text := <-m.received:
		return text
	case <-time.After(30 * time.Second):
		m.Fatal("received nothing")
		return ""
	}
}

// receivesNoMore checks that there is no further datagram. The Notifier must be
// closed.
func (m *manager) receivesNoMore() {
	m.Helper()
	select {
	case text := <-m.received:
		m.Errorf("also received %q", text)
	case <-time.After(time.Millisecond):
	}
}

func closeNotifier(t *testing.T, n *Notifier) {
	t.Helper()
	for _, err := range Close(n) {
		t.Error(err)
	}
}

func closeError(n *Notifier) error { return errors.Join(Close(n)...) }

func TestSystemd(t *testing.T) {
	m := newManager(t, false)
	n := Systemd(m.path, nil)
	commit(n, artifact.Starting, "on my way")
	m.receives("STATUS=starting: on my way")
	commit(n, artifact.Ready, "listening")
	m.receives("STATUS=ready: listening\nREADY=1")
	n.Committed(&ingest.Commit{Events: []byte("x\n")}) // no status, no notification
	commit(n, artifact.Failed, "exited")
	m.receives("STATUS=failed: exited")
	closeNotifier(t, n)
	m.receives("STATUS=failed: exited\nSTOPPING=1")
	m.receives("BARRIER=1")
	m.receivesNoMore()
}

// If the stream ends while the guest still runs, STOPPING=1 is not sent.
func TestSystemd_guest_still_running(t *testing.T) {
	m := newManager(t, false)
	n := Systemd(m.path, nil)
	commit(n, artifact.Ready, "up")
	m.receives("STATUS=ready: up\nREADY=1")
	closeNotifier(t, n)
	m.receives("BARRIER=1")
	m.receivesNoMore()
}

// READY=1 is sent even if the guest has failed since it was ready.
func TestSystemd_briefly_ready(t *testing.T) {
	m := newManager(t, false)
	n := Systemd(m.path, nil)
	n.Committed(commitOf(artifact.Failed, "gone again", true))
	m.receives("STATUS=failed: gone again\nREADY=1")
	closeNotifier(t, n)
	m.receives("STATUS=failed: gone again\nSTOPPING=1")
}

// If nothing was sent, Close sends nothing and does not wait.
func TestSystemd_no_status(t *testing.T) {
	m := newManager(t, true)
	closeNotifier(t, Systemd(m.path, nil))
	m.receivesNoMore()
}

// The service manager does not close the descriptor of BARRIER=1. Close waits for 2 s,
// and reports that the service manager may not have received everything.
func TestSystemd_descriptor_kept(t *testing.T) {
	t.Parallel()
	m := newManager(t, true)
	n := Systemd(m.path, nil)
	commit(n, artifact.Ready, "up")
	m.receives("STATUS=ready: up\nREADY=1")
	begun := time.Now()
	err := closeError(n)
	if took := time.Since(begun); took < timeout {
		t.Errorf("Close returned after %v, want %v", took, timeout)
	}
	if err == nil || !strings.Contains(err.Error(), "systemd did not accept the last notification within 2s") {
		t.Errorf("Close returns %v", err)
	}
	m.receives("BARRIER=1")
}

// The service manager closes its socket when it has received READY=1. Close does not
// wait, and reports no error: everything was accepted.
func TestSystemd_socket_closed_after_ready(t *testing.T) {
	path := filepath.Join(testenv.PlainDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	testenv.Must(t, err)
	n := Systemd(path, nil)
	commit(n, artifact.Ready, "up")
	if _, err := conn.Read(make([]byte, 8192)); err != nil {
		t.Error(err)
	}
	conn.Close()
	closeNotifier(t, n)
}

// The service manager reads the datagrams without their descriptors, as those that do
// not know BARRIER=1 do. The kernel then closes the descriptor.
func TestSystemd_descriptor_not_read(t *testing.T) {
	path := filepath.Join(testenv.PlainDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	testenv.Must(t, err)
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	n := Systemd(path, nil)
	commit(n, artifact.Ready, "up")
	closeNotifier(t, n)
}

// A message cannot add an assignment, and a long one is truncated.
func TestSystemd_status_line(t *testing.T) {
	m := newManager(t, false)
	n := Systemd(m.path, nil)
	commit(n, artifact.Starting, "a\nREADY=1\r\x00b")
	m.receives("STATUS=starting: a READY=1  b")
	commit(n, artifact.Starting, "x"+strings.Repeat("é", 5000)) // the limit is inside an é
	if got := m.next(); len(got) > 1100 || !utf8.ValidString(got) || !strings.HasSuffix(got, "é…") {
		t.Errorf("the status has %d bytes; want about 1,000, valid UTF-8, ending with …: %q", len(got), got)
	}
	closeNotifier(t, n)
}

// The answers to GET /1.0 of hosts, from the source of the programs: devlxdAPIGet in
// lxd/devlxd.go of LXD, shared/api/devlxd.go since LXD 5.0.2, and devIncusAPIHandler in
// cmd/incusd/dev_incus.go of Incus. The programs encode them with encoding/json.
const (
	lxd500   = `{"api_version":"1.0","instance_type":"container","location":"none"}` + "\n"            // 5.0.0 and 5.0.1
	lxd509   = `{"state":"","api_version":"1.0","instance_type":"container","location":"none"}` + "\n" // 5.0.2 to 5.0.9
	lxd521   = `{"state":"Started","api_version":"1.0","instance_type":"virtual-machine","location":"host1"}` + "\n"
	incus600 = `{"state":"Ready","api_version":"1.0","location":"host1","instance_type":"container"}` + "\n"
)

// A host is a fake Incus or LXD host that serves the socket of an instance. As LXD 5.0
// does, it answers to each method.
type host struct {
	path    string
	version string // the answer to GET
	answer  int    // the code of the answer to PATCH

	mu       sync.Mutex
	gets     int
	requests []string // except GET
}

func newHost(t *testing.T, version string, answer int) *host {
	t.Helper()
	h := &host{path: filepath.Join(testenv.PlainDir(t), "sock"), version: version, answer: answer}
	l, err := net.Listen("unix", h.path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return h
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method == http.MethodGet {
		h.gets++
		io.WriteString(w, h.version)
		return
	}
	h.requests = append(h.requests, fmt.Sprintf("%s %s %s %s %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), body, err))
	w.WriteHeader(h.answer)
}

// receives waits until the host has received as many requests as there are states,
// and compares them.
func (h *host) receives(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range 30_000 {
		h.mu.Lock()
		got = slices.Clone(h.requests)
		h.mu.Unlock()
		if len(got) >= len(want) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for i, state := range want {
		want[i] = `PATCH /1.0 application/json {"state":"` + state + `"} <nil>`
	}
	if !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

func TestIncus(t *testing.T) {
	h := newHost(t, lxd521, http.StatusOK)
	n := Incus(h.path)
	commit(n, artifact.Starting, "")
	h.receives(t, "Started")
	commit(n, artifact.Ready, "")
	h.receives(t, "Started", "Ready")
	commit(n, artifact.Ready, "still")
	commit(n, artifact.Failed, "")
	h.receives(t, "Started", "Ready", "Started")
	closeNotifier(t, n)
	h.receives(t, "Started", "Ready", "Started")
	if h.gets != 1 {
		t.Errorf("the host received %d GET requests, want 1", h.gets)
	}
}

// The host does not know states of instances: it is notified of nothing, and there is
// one warning, whatever the number of notifications.
func TestIncus_without_states(t *testing.T) {
	for name, version := range map[string]string{"LXD_5.0.0": lxd500, "LXD_5.0.9": lxd509, "other": "not JSON"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, version, http.StatusOK)
			n := Incus(h.path)
			for _, state := range []artifact.State{artifact.Starting, artifact.Ready, artifact.Failed} {
				commit(n, state, "")
				time.Sleep(interval)
			}
			want := h.path + ": the host ignores states of instances, because it has no API extension instance_ready_state; " +
				"update it to LXD 5.5 or newer, or to Incus, or use --notify without incus"
			if errs := Close(n); len(errs) != 1 || errs[0].Error() != want {
				t.Errorf("Close returns %q, want %q", errs, want)
			}
			h.receives(t)
			if h.gets != 1 {
				t.Errorf("the host received %d GET requests, want 1", h.gets)
			}
		})
	}
}

// The answer is longer than what the HTTP server of the host sends without chunks.
func TestIncus_long_answer(t *testing.T) {
	drivers := `"supported_storage_drivers":[` + strings.Repeat(`{"name":"zfs","remote":false},`, 300) + `{"name":"ceph","remote":true}],`
	h := newHost(t, strings.Replace(incus600, "{", "{"+drivers, 1), http.StatusOK)
	n := Incus(h.path)
	commit(n, artifact.Ready, "")
	closeNotifier(t, n)
	h.receives(t, "Ready")
}

// The host does not answer at first. Each notification asks again.
func TestIncus_asks_again(t *testing.T) {
	path := filepath.Join(testenv.PlainDir(t), "sock")
	i := &incus{path: path}
	if err := i.send(notification{state: artifact.Starting}); err == nil {
		t.Error("send returns no error although nothing listens")
	}
	h := newHost(t, incus600, http.StatusOK)
	i.path = h.path
	testenv.Must(t, i.send(notification{state: artifact.Ready}))
	h.receives(t, "Ready")
}

// Hosts accept only root of the instance: hoistReq in lxd/devlxd.go.
func TestIncus_ordinary_user(t *testing.T) {
	path := filepath.Join(testenv.PlainDir(t), "sock")
	l, err := net.Listen("unix", path)
	testenv.Must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Access denied for non-root user", http.StatusUnauthorized)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	err = (&incus{path: path}).send(notification{state: artifact.Ready})
	want := path + `: the host answered "HTTP/1.0 401 Unauthorized" to GET /1.0; it accepts only root in the guest`
	if err == nil || err.Error() != want {
		t.Errorf("send returns %v, want %s", err, want)
	}
}

func TestIncus_briefly_ready(t *testing.T) {
	h := newHost(t, incus600, http.StatusOK)
	n := Incus(h.path)
	n.Committed(commitOf(artifact.Failed, "", true))
	closeNotifier(t, n)
	h.receives(t, "Ready", "Started")
}

// Failures are counted, and the next notification requests the same state again.
func TestIncus_host_rejects(t *testing.T) {
	h := newHost(t, incus600, http.StatusForbidden)
	n := Incus(h.path)
	commit(n, artifact.Ready, "")
	h.receives(t, "Ready")
	commit(n, artifact.Ready, "again")
	h.receives(t, "Ready", "Ready")
	err := closeError(n) // tries once more
	if err == nil || !strings.Contains(err.Error(), `3 notifications to incus failed: `) ||
		!strings.Contains(err.Error(), `the host answered "HTTP/1.0 403 Forbidden" to PATCH /1.0`) {
		t.Errorf("Close returns %v", err)
	}
	if err := closeError(Incus(filepath.Join(t.TempDir(), "missing"))); err != nil {
		t.Errorf("Close returns an error although nothing was to be sent: %v", err)
	}
	n = Incus(filepath.Join(t.TempDir(), "missing"))
	commit(n, artifact.Ready, "")
	err = closeError(n) // tries once more, if the first attempt has already failed
	if err == nil || !regexp.MustCompile(`^(1 notification|2 notifications) to incus failed: .*missing`).MatchString(err.Error()) {
		t.Errorf("Close returns %v", err)
	}
}

// A service manager does not accept a notification. Committed does not block, and
// Close waits only for the time limit. When the service manager accepts it, it gets
// the newest notification next.
func TestNotifier_blocked(t *testing.T) {
	t.Parallel()
	accept, sent := make(chan bool), make(chan notification, 100)
	n := start("test", func(next notification) error {
		sent <- next
		<-accept
		return nil
	}, nil)
	commit(n, artifact.Starting, "0")
	<-sent
	for i := range 1000 {
		commit(n, artifact.Starting, fmt.Sprint(i))
	}
	commit(n, artifact.Ready, "1000")
	commit(n, artifact.Failed, "1001")
	accept <- true
	if got := <-sent; got != (notification{state: artifact.Failed, message: "1001", wasReady: true}) {
		t.Errorf("the next notification is %+v, want the newest", got)
	}
	err := closeError(n)
	if err == nil || !strings.Contains(err.Error(), "test did not accept the last notification within 2s") {
		t.Errorf("Close returns %v", err)
	}
	close(accept)
}

// A notification that the guest was ready fails. The next one reports it again.
func TestNotifier_ready_again(t *testing.T) {
	t.Parallel()
	sent := make(chan notification, 100)
	n := start("test", func(next notification) error {
		sent <- next
		if next.state == artifact.Ready {
			return errors.New("no")
		}
		return nil
	}, nil)
	commit(n, artifact.Ready, "")
	<-sent
	commit(n, artifact.Failed, "")
	if got := <-sent; got != (notification{state: artifact.Failed, wasReady: true}) {
		t.Errorf("the next notification is %+v, want one with wasReady", got)
	}
	if err := closeError(n); err == nil || !strings.Contains(err.Error(), "1 notification to test failed: no") {
		t.Errorf("Close returns %v", err)
	}
	if got := <-sent; got.wasReady {
		t.Errorf("the last notification is %+v, and reports again that the guest was ready", got)
	}
}

// The limit of 2 s is for all notifiers together.
func TestClose_shared_limit(t *testing.T) {
	t.Parallel()
	blocked := make(chan bool)
	defer close(blocked)
	hangs := func(notification) error { <-blocked; return nil }
	a, b, c := start("a", hangs, nil), start("b", hangs, nil), start("c", func(notification) error { return nil }, nil)
	for _, n := range []*Notifier{a, b, c} {
		commit(n, artifact.Ready, "")
	}
	begun := time.Now()
	errs := Close(a, b, c)
	if took := time.Since(begun); took >= 2*timeout {
		t.Errorf("Close took %v", took)
	}
	if text := fmt.Sprint(errs); len(errs) != 2 || !strings.Contains(text, "a did not accept") || !strings.Contains(text, "b did not accept") {
		t.Errorf("Close returns %v; want errors of a and b", errs)
	}
}

// 10,000 commits cause one notification per interval, besides the first and the last.
func TestNotifier_interval(t *testing.T) {
	t.Parallel()
	sent := 0
	n := start("test", func(notification) error { sent++; return nil }, nil)
	begun := time.Now()
	for i := range 10_000 {
		commit(n, artifact.Starting, fmt.Sprint(i))
	}
	took := time.Since(begun)
	closeNotifier(t, n)
	if most := int(took/interval) + 3; sent > most {
		t.Errorf("%d notifications in %v, want at most %d", sent, took, most)
	}
}

// The host accepts the connection but does not answer.
func TestIncus_timeout(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testenv.PlainDir(t), "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	i := &incus{path: path}
	if err := i.send(notification{state: artifact.Ready}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("send returns %v, want a timeout", err)
	}
}
