package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// openWriter opens a FIFO for writing once it has a reader.
func openWriter(t *testing.T, path string) (f *os.File) {
	t.Helper()
	waitUntil(t, "ingest has opened "+path, func() bool {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil || !dirfs.IsPipe(fd) {
			unix.Close(fd)
			return false
		}
		testenv.Must(t, unix.SetNonblock(fd, false))
		f = os.NewFile(uintptr(fd), path)
		return true
	})
	t.Cleanup(func() { f.Close() })
	return f
}

func writeLine(t *testing.T, f *os.File, line string) {
	t.Helper()
	_, err := f.WriteString(line + "\n")
	testenv.Must(t, err)
}

// If the path of the FIFO is removed, ingest creates it again with its mode. Programs that
// have the old FIFO open, and what they have written, are still read.
func TestFIFO_removed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/fifo"
	testenv.Must(t, unix.Mkfifo(path, 0o600), os.Chmod(path, 0o622))
	p := startIn(t, dir, nil, "--grace", "1h", "--fifo", path)
	old := openWriter(t, path)
	writeLine(t, old, "STATE=starting")
	p.ackUpTo(1)
	for i := range 2 { // it may happen again
		testenv.Must(t, os.Remove(path))
		p.awaitStderr("pika-cloud-lifecycle: ingest: " + path + ": the FIFO was removed; created it again\n")
		info, err := os.Stat(path)
		testenv.Must(t, err)
		if info.Mode() != os.ModeNamedPipe|0o622 {
			t.Errorf("mode %v", info.Mode())
		}
		writeLine(t, old, "KIND=ready MESSAGE=old")
		p.ackUpTo(3*i + 2)
		for j := range 2 { // it does not end between two writers
			writer := openWriter(t, path)
			writeLine(t, writer, "KIND=ready MESSAGE=new")
			testenv.Must(t, writer.Close())
			p.ackUpTo(3*i + 3 + j)
		}
	}
	last := openWriter(t, path)
	writeLine(t, last, "KIND=ready MESSAGE=last")
	p.ackUpTo(8)
	p.signal(unix.SIGTERM)
	testenv.Must(t, old.Close())
	writeLine(t, last, "STATE=completed") // still read
	p.ackUpTo(9)
	testenv.Must(t, last.Close())
	if stderr := p.exits(exitOK); strings.Count(stderr, "\n") != 2 {
		t.Errorf("stderr\n%s", stderr)
	}
	p.hasEvents(9)
	p.absent("fifo") // the last one was created by ingest
}

// What else can be at the path.
func TestFIFO_replaced(t *testing.T) {
	for name, c := range map[string]struct {
		replace func(t *testing.T, path string)
		warning string
		again   func(path string) error // leads to a FIFO that is read; nil if it is read already
		stays   bool                    // the file at the path exists after the end
	}{
		"file": {func(t *testing.T, path string) {
			testenv.Must(t, os.WriteFile(path, []byte("STATE=ready\n"), 0o644))
		}, "the FIFO was replaced by another file, which is not read; remove it, and ingest creates the FIFO again", os.Remove, false},
		"file that stays": {func(t *testing.T, path string) {
			testenv.Must(t, os.WriteFile(path, nil, 0o644))
		}, "the FIFO was replaced by another file, which is not read; remove it, and ingest creates the FIFO again", nil, true},
		"symbolic link": {func(t *testing.T, path string) {
			testenv.Must(t, unix.Mkfifo(path+"2", 0o600), os.Symlink(path+"2", path))
		}, "the FIFO was replaced by another file, which is not read; remove it, and ingest creates the FIFO again", os.Remove, false},
		"FIFO": {func(t *testing.T, path string) {
			testenv.Must(t, unix.Mkfifo(path, 0o600))
		}, "the FIFO was replaced by another one; reading both", func(string) error { return nil }, true},
		"FIFO in use": {func(t *testing.T, path string) {
			testenv.Must(t, unix.Mkfifo(path+"2", 0o600))
			f, err := os.OpenFile(path+"2", os.O_RDWR, 0)
			testenv.Must(t, err)
			t.Cleanup(func() { f.Close() })
			testenv.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX), os.Rename(path+"2", path))
		}, "the FIFO was replaced by one that another run or ingest reads; stop that one", os.Remove, false},
		"directory removed": {func(t *testing.T, path string) {
			testenv.Must(t, os.Remove(filepath.Dir(path)))
		}, "the FIFO and its directory were removed; create the directory, and ingest creates the FIFO again",
			func(path string) error { return os.Mkdir(filepath.Dir(path), 0o700) }, false},
		"directory replaced": {func(t *testing.T, path string) {
			testenv.Must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+"2"), os.Mkdir(filepath.Dir(path), 0o700))
		}, "the FIFO was removed; created it again", func(string) error { return nil }, false},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := dir + "/in/fifo"
			p := startIn(t, dir, nil, "--grace", "1h", "--fifo", path)
			old := openWriter(t, path)
			writeLine(t, old, "STATE=starting")
			p.ackUpTo(1)
			if name != "directory replaced" {
				testenv.Must(t, os.Remove(path))
			}
			c.replace(t, path)
			p.awaitStderr("pika-cloud-lifecycle: ingest: " + path + ": " + c.warning + "\n")
			writeLine(t, old, "STATE=ready")
			p.ackUpTo(2)
			if c.again != nil {
				time.Sleep(2 * fifoInterval) // the warning is not repeated
				testenv.Must(t, c.again(path))
				writer := openWriter(t, path)
				writeLine(t, writer, "STATE=completed")
				p.ackUpTo(3)
				testenv.Must(t, writer.Close())
			}
			testenv.Must(t, old.Close())
			p.signal(unix.SIGTERM)
			if stderr := p.exits(exitOK); strings.Count(stderr, c.warning) != 1 {
				t.Errorf("stderr\n%s", stderr)
			}
			if _, err := os.Lstat(path); (err == nil) != c.stays {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

// All lines that arrived in both FIFOs before the stop are read, even without a grace period,
// and no line is mixed with another one.
func TestFIFO_removed_nothing_lost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/fifo"
	p := startIn(t, dir, nil, "--grace", "0", "--fifo", path)
	old := openWriter(t, path)
	testenv.Must(t, os.Remove(path))
	p.awaitStderr("created it again")
	writers := []*os.File{old, openWriter(t, path), openWriter(t, path)}
	const lines = 3000
	want := map[string]int{}
	var wait sync.WaitGroup
	for i, f := range writers {
		message := func(n int) string { return fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", n%200)) }
		for n := range lines {
			want[message(n)]++
		}
		wait.Go(func() {
			for n := range lines {
				fmt.Fprintf(f, "KIND=ready MESSAGE=%s\n", message(n))
			}
		})
	}
	wait.Wait()
	written := len(writers) * lines
	p.ackUpTo(written)
	for _, f := range writers { // longer than PIPE_BUF, so it could mix with a line that is copied at the same time
		long := strings.Repeat("y", 3*pipeBuf)
		want[long]++
		writeLine(t, f, "KIND=ready MESSAGE="+long)
		written++
		p.ackUpTo(written)
	}
	p.signal(unix.SIGSTOP)      // so that nothing is read before the stop
	for i, f := range writers { // as much as both FIFOs can hold
		testenv.Must(t, unix.SetNonblock(int(f.Fd()), true))
		for n := 0; ; n++ {
			message := fmt.Sprintf("stopped-%d-%d", i, n)
			_, err := unix.Write(int(f.Fd()), []byte("KIND=ready MESSAGE="+message+"\n"))
			if err == unix.EAGAIN {
				break
			}
			testenv.Must(t, err)
			want[message]++
		}
	}
	for _, f := range writers {
		testenv.Must(t, f.Close())
	}
	p.signal(unix.SIGTERM)
	p.signal(unix.SIGCONT)
	p.exits(exitOK)
	for _, line := range linesOf(p.file("events.jsonl")) {
		var event struct{ Message string }
		testenv.Must(t, json.Unmarshal([]byte(line), &event))
		want[event.Message]--
	}
	for message, n := range want {
		if n != 0 {
			t.Errorf("%d events too few with message %.100s", n, message)
		}
	}
	p.absent("fifo")
}

// The FIFO of a socket unit belongs to systemd, which creates the next one: ingest reads it too.
func TestFIFO_of_systemd_removed(t *testing.T) {
	testenv.Tool(t, "bash")
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/fifo"
	testenv.Must(t, unix.Mkfifo(path, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	testenv.Must(t, err)
	defer f.Close()
	p := startIn(t, dir, func(cmd *exec.Cmd) {
		args := append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 4>&-`}, cmd.Args...)
		cmd.Path, cmd.Args, cmd.ExtraFiles = "/bin/bash", append([]string{"bash"}, args...), []*os.File{f, cmd.ExtraFiles[0]}
		for i, arg := range cmd.Args {
			if arg == "--ack-fd" {
				cmd.Args[i+1] = "1"
			}
		}
		cmd.Stdout = cmd.ExtraFiles[1]
	}, "--grace", "1ms")
	_, err = f.WriteString("STATE=starting\n")
	testenv.Must(t, err)
	p.ackUpTo(1)
	testenv.Must(t, os.Remove(path))
	p.awaitStderr("pika-cloud-lifecycle: ingest: " + path + ": the FIFO of the socket unit was removed or replaced; restart the socket unit\n")
	time.Sleep(2 * fifoInterval)
	_, err = f.WriteString("STATE=ready\n")
	testenv.Must(t, err)
	p.ackUpTo(2)
	p.absent("fifo")

	testenv.Must(t, os.WriteFile(path, nil, 0o600))
	time.Sleep(2 * fifoInterval)
	testenv.Must(t, os.Remove(path), unix.Mkfifo(path, 0o600))
	p.awaitStderr("pika-cloud-lifecycle: ingest: " + path + ": the FIFO of the socket unit was replaced by another one; reading both\n")
	next, err := os.OpenFile(path, os.O_WRONLY, 0)
	testenv.Must(t, err)
	_, err = next.WriteString("STATE=ready\n")
	testenv.Must(t, err, next.Close())
	p.ackUpTo(3)
	_, err = f.WriteString("STATE=ready\n")
	testenv.Must(t, err)
	p.ackUpTo(4)
	next, err = os.OpenFile(path, os.O_WRONLY, 0) // it has not ended with its writer
	testenv.Must(t, err)
	_, err = next.WriteString("STATE=completed\n")
	testenv.Must(t, err, next.Close())
	p.signal(unix.SIGTERM)
	if stderr := p.exits(exitOK); strings.Count(stderr, "\n") != 2 {
		t.Errorf("stderr\n%s", stderr)
	}
	p.contains("result.json", `"status": "completed"`)
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the FIFO of systemd is %v, %v after ingest has ended", info, err)
	}
}
