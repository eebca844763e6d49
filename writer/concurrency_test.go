package writer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// How many processes of each kind write at the same time as an ingest.
const (
	singleCommits = 2000
	oneShots      = 50
	pythonWriters = 50
	protocolGo    = 5 // Go programs that use the lock protocol of the Python command
	protocolLines = 4 // events of each of those
)

// pythonCommand returns a command that runs the replacement for the Python
// writer.
func pythonCommand(t *testing.T, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, testenv.Python(t), append([]string{"../testdata/python_writer.py"}, args...)...)
}

// childPython writes events with the lock protocol of the Python command, which
// reads the last seq only from the seq file.
func childPython(args []string) error {
	path := args[0]
	for _, message := range args[1:] {
		if err := pythonEvent(path, message); err != nil {
			return err
		}
	}
	return nil
}

func pythonEvent(path, message string) error {
	seqFile, err := os.OpenFile(path+".seq", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer seqFile.Close()
	if err := dirfs.Retry(func() error { return unix.Flock(int(seqFile.Fd()), unix.LOCK_EX) }); err != nil {
		return err
	}
	text, err := io.ReadAll(seqFile)
	if err != nil {
		return err
	}
	seq, err := pythonInt(string(text))
	if err != nil {
		return fmt.Errorf("the seq file contains %q: %w", text, err)
	}
	line := testLine(seq+1, message)
	_, err = seqFile.WriteAt(fmt.Appendf(nil, "%d\n", seq+1), 0)
	log, err2 := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	_, err = log.WriteString(line)
	return errors.Join(err, log.Close())
}

// A fleet is a number of processes that start at the same time.
type fleet struct {
	begin   chan struct{}
	running sync.WaitGroup
	want    map[string]bool // the messages they write
}

// add adds n processes. argv returns the command of each, and the messages that it
// writes. slowest returns the longest time that one of them took.
func (f *fleet) add(t *testing.T, n int, argv func(i int) (*exec.Cmd, []string)) (slowest func() time.Duration) {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range n {
		cmd, messages := argv(i)
		for _, m := range messages {
			f.want[m] = true
		}
		f.running.Go(func() {
			<-f.begin
			start := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd.Args, err, out)
			}
			took[i] = time.Since(start)
		})
	}
	return func() time.Duration { return slices.Max(took) }
}

// One-shot commands and writers with the Python protocol append at the same time
// as an ingest that commits each line separately. The seqs start at 1 and have no
// gaps or duplicates, every event is written once, and no writer starves.
func TestEventLog_many_writers(t *testing.T) {
	t.Parallel()
	dir := testenv.TempDir(t)
	log := filepath.Join(dir, EventsName)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f := fleet{begin: make(chan struct{}), want: map[string]bool{}}
	slowestShot := f.add(t, oneShots, func(i int) (*exec.Cmd, []string) {
		m := fmt.Sprint("one-shot ", i)
		return exec.CommandContext(ctx, testenv.Program(t), "event", "--events-path", log, "--kind", "ready", "--message", m), []string{m}
	})
	slowestPython := f.add(t, pythonWriters, func(i int) (*exec.Cmd, []string) {
		m := fmt.Sprint("python ", i)
		return pythonCommand(t, ctx, "event", log, m), []string{m}
	})
	slowestGo := f.add(t, protocolGo, func(i int) (*exec.Cmd, []string) {
		var messages []string
		for k := range protocolLines {
			messages = append(messages, fmt.Sprint("protocol ", i, " ", k))
		}
		cmd := exec.CommandContext(ctx, os.Args[0], append([]string{log}, messages...)...)
		cmd.Env = append(os.Environ(), childRole+"=python")
		return cmd, messages
	})
	for i := range singleCommits {
		f.want[fmt.Sprint("ingest ", i)] = true
	}
	start := time.Now()
	acks := ingestOneByOne(t, ctx, dir, func() { close(f.begin) })
	ingested := time.Since(start)
	f.running.Wait()
	t.Logf("%d acknowledged commits in %v; all %d events in %v; the slowest one-shot took %v, Python writer %v, writer of %d events %v",
		acks, ingested, len(f.want), time.Since(start), slowestShot(), slowestPython(), protocolLines, slowestGo())
	if acks != singleCommits {
		t.Errorf("%d commits, expected %d", acks, singleCommits)
	}
	wantEvents(t, log, f.want)
	if s, err := statusIn(dir).Read(); err != nil || s.State != artifact.Ready {
		t.Errorf("%+v, %v", s, err)
	}
}

// wantEvents checks that a log holds each message once, numbered from 1.
func wantEvents(t *testing.T, log string, want map[string]bool) {
	t.Helper()
	records := mustLoad(t, log) // contiguous
	if len(records) != len(want) || records[0].seq != 1 {
		t.Errorf("%d events from %d on, expected %d from 1 on", len(records), records[0].seq, len(want))
	}
	for _, r := range records {
		if !want[r.message] {
			t.Errorf("%q is duplicate or was never written", r.message)
		}
		delete(want, r.message)
	}
	if got := testenv.ReadIfExists(t, log+".seq"); strings.TrimSpace(got) != strconv.Itoa(len(records)) {
		t.Errorf("the seq file contains %q", got)
	}
}

// ingestOneByOne writes directives to an ingest. It waits for the acknowledgement
// of each before it writes the next, so each gets its own commit. It calls begun
// after the first, and returns the number of acknowledgements.
func ingestOneByOne(t *testing.T, ctx context.Context, dir string, begun func()) (acks int) {
	t.Helper()
	cmd := exec.CommandContext(ctx, testenv.Program(t), "ingest", "--state-dir", dir, "--ack-fd", "3")
	in, err := cmd.StdinPipe()
	testenv.Must(t, err)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer r.Close()
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, os.Stderr
	testenv.Must(t, cmd.Start())
	w.Close()
	answers := bufio.NewReader(r)
	for i := range singleCommits {
		line, err := json.Marshal(map[string]any{"state": "ready", "message": fmt.Sprint("ingest ", i)})
		testenv.Must(t, err)
		_, err = in.Write(append(line, '\n'))
		testenv.Must(t, err)
		answer, err := answers.ReadString('\n')
		testenv.Must(t, err)
		if !strings.HasPrefix(answer, fmt.Sprint(i+1, " ")) {
			t.Fatalf("acknowledged %q after line %d", answer, i+1)
		}
		if acks++; i == 0 {
			begun()
		}
	}
	testenv.Must(t, in.Close())
	if err := cmd.Wait(); err != nil {
		t.Errorf("ingest: %v", err)
	}
	return acks
}

// Several EventLogs append to a log, and between their appends torn lines appear,
// as after a writer was killed. No complete event is lost.
func TestEventLog_many_writers_torn_tails(t *testing.T) {
	dir := testenv.TempDir(t)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			l := logIn(dir)
			for n := range 100 {
				unlock, err := l.Lock()
				if err == nil {
					err = l.Append(batchOf(fmt.Sprint(w, " ", n)))
				}
				if err == nil && n%3 == 0 {
					_, err = l.lines.file.Write([]byte(`{"schema_version":1,`)) // as a writer that is killed
				}
				if unlock != nil {
					unlock()
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	writers.Wait()
	want := map[string]bool{"last": true}
	for i := range 400 {
		want[fmt.Sprint(i%4, " ", i/4)] = true
	}
	appendTo(t, logIn(dir), "last")
	wantEvents(t, filepath.Join(dir, EventsName), want)
	torn := testenv.ReadIfExists(t, filepath.Join(dir, EventsName+".torn"))
	if torn != strings.Repeat(`{"schema_version":1,`+"\n", 4*34) {
		t.Errorf("%d lines were moved to the .torn file", strings.Count(torn, "\n"))
	}
}

// Python writers replace the status and the result, and can read those that this
// package wrote.
func TestReplace_python_writer(t *testing.T) {
	d := In(testenv.TempDir(t))
	python := func(args ...string) {
		t.Helper()
		if out, err := pythonCommand(t, t.Context(), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	testenv.Must(t, d.Status.Replace(numbered(1)))
	python("status", d.Status.Path, "failed", "m")
	python("result", d.Result.Path, "failed", "7", "m")
	s, err := d.Status.Read()
	testenv.Must(t, err)
	r, err := d.Result.Read()
	testenv.Must(t, err)
	if s.State != artifact.Failed || s.BootID == "" || r.Outcome != artifact.OutcomeFailed {
		t.Errorf("%+v, %+v", s, r)
	}
	testenv.Must(t, d.Status.Replace(numbered(2)))
	testenv.Must(t, readNumbered(d.Status.Path))
}
