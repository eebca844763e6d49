package notify

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// say is a commit of a status.
func say(n *Notifier, state artifact.State, message string) {
	n.Committed(commitOf(state, message, state == artifact.Ready))
}

func commitOf(state artifact.State, message string, ready bool) *ingest.Commit {
	return &ingest.Commit{Ready: ready, Status: &artifact.Status{State: state, Message: strictjson.AppendText(nil, message)}}
}

// A manager is a service manager that listens at $NOTIFY_SOCKET.
type manager struct {
	*testing.T
	*net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(testenv.PlainDir(t), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn}
}

// hears demands the next datagram.
func (m *manager) hears(want string) {
	m.Helper()
	if got := m.next(); got != want {
		m.Errorf("heard %q, want %q", got, want)
	}
}

func (m *manager) next() string {
	m.Helper()
	m.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 8192)
	n, err := m.Read(buf)
	if err != nil {
		m.Fatal(err)
	}
	return string(buf[:n])
}

// hearsNoMore demands that nothing else was sent. The notifier is closed.
func (m *manager) hearsNoMore() {
	m.Helper()
	m.SetReadDeadline(time.Now().Add(time.Millisecond))
	buf := make([]byte, 8192)
	if n, err := m.Read(buf); err == nil {
		m.Errorf("heard %q too", buf[:n])
	}
}

func shut(t *testing.T, n *Notifier) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestSystemdLearnsTheStatusThatItIsReadyAndThatItStops(t *testing.T) {
	m := newManager(t)
	n := Systemd()
	say(n, artifact.Starting, "on my way")
	m.hears("STATUS=starting: on my way")
	say(n, artifact.Ready, "listening")
	m.hears("STATUS=ready: listening\nREADY=1")
	n.Committed(&ingest.Commit{Events: []byte("x\n")}) // no status: nothing to tell
	say(n, artifact.Failed, "exited")
	m.hears("STATUS=failed: exited")
	shut(t, n)
	m.hears("STATUS=failed: exited\nSTOPPING=1")
	m.hearsNoMore()
}

// A stream that ends while the guest runs may be beside a service that goes on.
func TestSystemdLearnsOfNoStopWhereTheGuestRuns(t *testing.T) {
	m := newManager(t)
	n := Systemd()
	say(n, artifact.Ready, "up")
	m.hears("STATUS=ready: up\nREADY=1")
	shut(t, n)
	m.hearsNoMore()
}

func TestAMomentOfBeingReadyIsTold(t *testing.T) {
	m := newManager(t)
	n := Systemd()
	n.Committed(commitOf(artifact.Failed, "gone again", true))
	m.hears("STATUS=failed: gone again\nREADY=1")
	shut(t, n)
	m.hears("STATUS=failed: gone again\nSTOPPING=1")
}

// The status cannot forge another assignment, and fits a datagram.
func TestAStatusIsOneLineOfUTF8(t *testing.T) {
	m := newManager(t)
	n := Systemd()
	say(n, artifact.Starting, "a\nREADY=1\r\x00b")
	m.hears("STATUS=starting: a READY=1  b")
	say(n, artifact.Starting, "x"+strings.Repeat("é", 5000)) // cut within one
	if got := m.next(); len(got) > 1100 || !utf8.ValidString(got) || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	shut(t, n)
}

// A host serves the instance's socket as Incus does.
type host struct {
	path   string
	answer int

	mu   sync.Mutex
	told []string
}

func newHost(t *testing.T, answer int) *host {
	t.Helper()
	h := &host{path: filepath.Join(testenv.PlainDir(t), "sock"), answer: answer}
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
	h.told = append(h.told, fmt.Sprintf("%s %s %s %s %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), body, err))
	h.mu.Unlock()
	w.WriteHeader(h.answer)
}

// hears waits until the host was told so many times, and compares.
func (h *host) hears(t *testing.T, want ...string) {
	t.Helper()
	var told []string
	for range 30_000 {
		h.mu.Lock()
		told = slices.Clone(h.told)
		h.mu.Unlock()
		if len(told) >= len(want) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for i, state := range want {
		want[i] = `PATCH /1.0 application/json {"state":"` + state + `"} <nil>`
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestIncusLearnsWhenTheGuestIsReadyAndWhenItIsNoMore(t *testing.T) {
	h := newHost(t, http.StatusOK)
	n := Incus(h.path)
	say(n, artifact.Starting, "")
	h.hears(t, "Started")
	say(n, artifact.Ready, "")
	h.hears(t, "Started", "Ready")
	say(n, artifact.Ready, "still")
	say(n, artifact.Failed, "")
	h.hears(t, "Started", "Ready", "Started")
	shut(t, n)
	h.hears(t, "Started", "Ready", "Started")
}

func TestIncusLearnsOfAMomentOfBeingReady(t *testing.T) {
	h := newHost(t, http.StatusOK)
	n := Incus(h.path)
	n.Committed(commitOf(artifact.Failed, "", true))
	shut(t, n)
	h.hears(t, "Ready", "Started")
}

func TestWhatFailsIsCountedAndTriedWithTheNext(t *testing.T) {
	h := newHost(t, http.StatusForbidden)
	n := Incus(h.path)
	say(n, artifact.Ready, "")
	h.hears(t, "Ready")
	say(n, artifact.Ready, "again")
	h.hears(t, "Ready", "Ready")
	err := n.Close() // tries once more
	if err == nil || !strings.Contains(err.Error(), `3 notifications to incus failed`) ||
		!strings.Contains(err.Error(), `answers "HTTP/1.1 403 Forbidden" to state Ready`) {
		t.Error(err)
	}
	if err := Incus(filepath.Join(t.TempDir(), "nobody")).Close(); err != nil {
		t.Errorf("nothing was to be told: %v", err)
	}
	n = Incus(filepath.Join(t.TempDir(), "nobody"))
	say(n, artifact.Ready, "")
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
}

// One that takes nothing holds up neither the stream nor, for long, its end;
// what it did not take in time is the newest when it does.
func TestWhoIsStuckHoldsNothingUp(t *testing.T) {
	t.Parallel()
	free, told := make(chan bool), make(chan news, 100)
	n := start("somebody", func(w news) error {
		told <- w
		<-free
		return nil
	})
	say(n, artifact.Starting, "0")
	<-told
	for i := range 1000 {
		say(n, artifact.Starting, fmt.Sprint(i))
	}
	say(n, artifact.Ready, "1000")
	say(n, artifact.Failed, "1001")
	free <- true
	if w := <-told; w != (news{state: artifact.Failed, text: "1001", ready: true}) {
		t.Errorf("%+v", w)
	}
	err := n.Close()
	if err == nil || !strings.Contains(err.Error(), "somebody is not told how it ended: no answer within 2s") {
		t.Error(err)
	}
	close(free)
}

// A flood of commits is not one of notifications.
func TestAFloodIsToldNowAndThen(t *testing.T) {
	t.Parallel()
	told := 0
	n := start("somebody", func(news) error { told++; return nil })
	begun := time.Now()
	for i := range 10_000 {
		say(n, artifact.Starting, fmt.Sprint(i))
	}
	took := time.Since(begun)
	shut(t, n)
	if most := int(took/pause) + 3; told > most {
		t.Errorf("told %d times in %v, expected %d at most", told, took, most)
	}
}

// A socket that accepts and says nothing is given up.
func TestAHostThatDoesNotAnswerIsGivenUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testenv.PlainDir(t), "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	i := &incus{path: path}
	if err := i.tell(news{state: artifact.Ready}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Error(err)
	}
}
