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

// testMoment is the time on the clock of every stream under test.
var testMoment = Moment{
	Time:   time.Date(2026, 3, 25, 20, 0, 0, 123456789, time.UTC),
	Uptime: 12345678 * time.Microsecond,
}

// A guest is a stream under test with its state directory.
type guest struct {
	Stream
	t    testing.TB
	path string

	mu     sync.Mutex
	warned []string
	warn   chan string // receives each warning, if not nil
}

func newGuest(t testing.TB) *guest {
	g := &guest{t: t, path: testenv.TempDir(t)}
	g.Stream = Stream{Dir: writer.In(g.path), Clock: func() Moment { return testMoment }, BootID: testBoot, Warn: g.logWarning}
	g.Dir.Rejects.MaxBytes = 64 << 20
	return g
}

func (g *guest) logWarning(line string) {
	g.mu.Lock()
	g.warned = append(g.warned, line)
	g.mu.Unlock()
	if g.warn != nil {
		g.warn <- line
	}
}

// warnings returns all lines that the stream logged.
func (g *guest) warnings() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.warned, "\n")
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

// artifacts returns the files of the state directory by name, without the writer lock,
// which is empty after a stream has ended.
func (g *guest) artifacts() map[string]string {
	entries, err := os.ReadDir(g.path)
	testenv.Must(g.t, err)
	files := map[string]string{}
	for _, e := range entries {
		files[e.Name()] = g.read(e.Name())
	}
	if files[writer.WriterLockName] == "" {
		delete(files, writer.WriterLockName)
	}
	return files
}

// from runs the stream on a descriptor.
func (g *guest) from(fd int) Summary {
	g.t.Helper()
	defer g.Dir.Close() // there are more guests than descriptors
	s := g.Stream
	s.In = fd
	sum, err := s.Run()
	testenv.Must(g.t, err)
	return sum
}

// feed runs the stream on a regular file, so that one read gets all of a short
// text and the next one the end of input.
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

// feedChunks runs the stream on a socket of which each read gets one chunk.
func (g *guest) feedChunks(chunks ...string) Summary {
	g.t.Helper()
	fd := packets(g.t, chunks)
	defer unix.Close(fd)
	return g.from(fd)
}

// A runningStream is a stream that runs in a goroutine and reads from a pipe.
type runningStream struct {
	*guest
	in, stop *os.File // to write to
	done     chan outcome
}

type outcome struct {
	Summary
	err error
}

// open starts the stream on a pipe.
func (g *guest) open() *runningStream {
	g.t.Helper()
	in, stop := newPipe(g.t), newPipe(g.t)
	s := g.Stream
	s.In, s.Stop = int(in.r.Fd()), int(stop.r.Fd())
	w := &runningStream{guest: g, in: in.w, stop: stop.w, done: make(chan outcome, 1)}
	go func() {
		sum, err := s.Run()
		in.r.Close()
		w.done <- outcome{sum, err}
	}()
	return w
}

func (w *runningStream) print(text string) {
	w.t.Helper()
	_, err := w.in.WriteString(text)
	testenv.Must(w.t, err)
}

// requestStop asks the stream to stop, as a signal does.
func (w *runningStream) requestStop() {
	w.t.Helper()
	_, err := w.stop.Write([]byte{0})
	testenv.Must(w.t, err)
}

// wait waits for the end of the stream.
func (w *runningStream) wait() Summary {
	w.t.Helper()
	select {
	case o := <-w.done:
		w.Dir.Close()
		testenv.Must(w.t, o.err)
		return o.Summary
	case <-time.After(time.Minute):
		w.t.Fatalf("the stream does not stop; warnings:\n%s", w.warnings())
		return Summary{}
	}
}

// close ends the input and waits for the end of the stream.
func (w *runningStream) close() Summary {
	w.t.Helper()
	testenv.Must(w.t, w.in.Close())
	return w.wait()
}

// waitForWarning waits until the stream logs a line that contains text.
func (w *runningStream) waitForWarning(text string) {
	w.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-w.warn:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			w.t.Fatalf("no warning contains %q; warnings:\n%s", text, w.warnings())
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
