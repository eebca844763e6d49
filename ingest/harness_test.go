package ingest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const testBoot = "11111111-2222-3333-4444-555555555555"

// testMoment is what the clock of every stream under test says.
var testMoment = Moment{
	Time:   time.Date(2026, 3, 25, 20, 0, 0, 123456789, time.UTC),
	Uptime: 12345678 * time.Microsecond,
}

// A guest is a stream under test in a state directory of its own.
type guest struct {
	Stream
	t    testing.TB
	path string

	mu   sync.Mutex
	said []string
	talk chan string // gets what is said, if there is one
}

func newGuest(t testing.TB) *guest {
	g := &guest{t: t, path: testenv.TempDir(t)}
	g.Stream = Stream{Dir: writer.In(g.path), Clock: func() Moment { return testMoment }, BootID: testBoot, Warn: g.hear}
	g.Dir.Rejects.MaxBytes = 64 << 20
	return g
}

func (g *guest) hear(line string) {
	g.mu.Lock()
	g.said = append(g.said, line)
	g.mu.Unlock()
	if g.talk != nil {
		g.talk <- line
	}
}

// heard returns all that was said.
func (g *guest) heard() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.said, "\n")
}

// file returns the path of an artifact.
func (g *guest) file(name string) string { return filepath.Join(g.path, name) }

// read returns the text of an artifact, empty if there is none.
func (g *guest) read(name string) string {
	text, err := os.ReadFile(g.file(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.t.Fatal(err)
	}
	return string(text)
}

func (g *guest) write(name, text string) {
	testenv.Must(g.t, os.WriteFile(g.file(name), []byte(text), 0o644))
}

// artifacts returns the files of the state directory by name.
func (g *guest) artifacts() map[string]string {
	entries, err := os.ReadDir(g.path)
	testenv.Must(g.t, err)
	files := map[string]string{}
	for _, e := range entries {
		files[e.Name()] = g.read(e.Name())
	}
	return files
}

// from runs the stream on a descriptor, once for every call.
func (g *guest) from(fd int) Summary {
	g.t.Helper()
	defer g.Dir.Close() // there are more guests than descriptors
	s := g.Stream
	s.In = fd
	sum, err := s.Run()
	testenv.Must(g.t, err)
	return sum
}

// feed runs the stream on a text that stands whole in a file, so that a read
// finds all of it and the next one its end.
func (g *guest) feed(text string) Summary {
	g.t.Helper()
	f, err := os.CreateTemp("", "input")
	testenv.Must(g.t, err)
	defer f.Close()
	testenv.Must(g.t, os.Remove(f.Name()))
	_, err = f.WriteString(text)
	testenv.Must(g.t, err)
	_, err = f.Seek(0, 0)
	testenv.Must(g.t, err)
	return g.from(int(f.Fd()))
}

// feedChunks runs the stream on chunks of which each read gets one, however
// fast they come.
func (g *guest) feedChunks(chunks ...string) Summary {
	g.t.Helper()
	fd := packets(g.t, chunks)
	defer unix.Close(fd)
	return g.from(fd)
}

// A tap is a pipe into a stream that runs.
type tap struct {
	*guest
	in, stop *os.File // to write to
	done     chan outcome
}

type outcome struct {
	Summary
	err error
}

// open starts the stream on a pipe.
func (g *guest) open() *tap {
	g.t.Helper()
	in, stop := newPipe(g.t), newPipe(g.t)
	s := g.Stream
	s.In, s.Stop = int(in.r.Fd()), int(stop.r.Fd())
	w := &tap{guest: g, in: in.w, stop: stop.w, done: make(chan outcome, 1)}
	go func() {
		sum, err := s.Run()
		in.r.Close()
		w.done <- outcome{sum, err}
	}()
	return w
}

func (w *tap) print(text string) {
	w.t.Helper()
	_, err := w.in.WriteString(text)
	testenv.Must(w.t, err)
}

// tell is a signal to end.
func (w *tap) tell() {
	w.t.Helper()
	_, err := w.stop.Write([]byte{0})
	testenv.Must(w.t, err)
}

// wait waits for the end of the stream.
func (w *tap) wait() Summary {
	w.t.Helper()
	select {
	case o := <-w.done:
		w.Dir.Close()
		testenv.Must(w.t, o.err)
		return o.Summary
	case <-time.After(time.Minute):
		w.t.Fatalf("the stream does not end; said:\n%s", w.heard())
		return Summary{}
	}
}

// close ends the input and waits for the end of the stream.
func (w *tap) close() Summary {
	w.t.Helper()
	testenv.Must(w.t, w.in.Close())
	return w.wait()
}

// until waits for the stream to say something that holds a text.
func (w *tap) until(text string) {
	w.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-w.talk:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			w.t.Fatalf("%q is not said; said:\n%s", text, w.heard())
		}
	}
}

type pipe struct{ r, w *os.File }

func newPipe(t testing.TB) pipe {
	t.Helper()
	var fds [2]int
	testenv.Must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	p := pipe{os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")}
	t.Cleanup(func() { p.r.Close(); p.w.Close() })
	return p
}

// check compares a text with what is expected.
func check(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is\n%s\nexpected\n%s", what, clip(got), clip(want))
	}
}

func clip(s string) string {
	return string(bytes.ToValidUTF8([]byte(s[:min(len(s), 4000)]), []byte("?")))
}

// checkSame compares the artifacts of two guests.
func checkSame(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		check(t, what+": "+name, got[name], want[name])
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: there is a file %s", what, name)
		}
	}
}
