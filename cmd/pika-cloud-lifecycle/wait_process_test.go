package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// newWaiter returns a waiter for the boot of testCommand, without a limit.
func newWaiter(dir string, states ...artifact.State) *waiter {
	return &waiter{dir: dir, states: states, bootID: testBoot, thisBoot: testBoot, limit: -1, warn: func(string) {}}
}

// ingestLines runs ingest with a line for each word, such as STATE=ready.
func ingestLines(t *testing.T, dir string, words ...string) {
	t.Helper()
	cmd := testCommand("ingest", "--state-dir", dir)
	cmd.Stdin = strings.NewReader(strings.Join(words, "\n") + "\n")
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, output)
	}
}

// look looks at everything, to the end of the log.
func (o *observer) lookAtAll(t *testing.T) {
	t.Helper()
	for more := true; more; {
		var err error
		more, err = o.look()
		testenv.Must(t, err)
	}
}

// A waiter that does not run while the guest passes through states makes the same decision
// as one that does.
func TestWait_passed(t *testing.T) {
	for _, c := range []struct {
		name    string
		wanted  artifact.State
		before  []string   // words of ingest before the wait begins
		streams [][]string // then the words of each ingest; "rotate" rotates the log
		code    int        // -1 if wait continues
	}{
		{"completed_at_once", "ready", nil, [][]string{{"STATE=booted", "STATE=ready", "STATE=completed"}}, exitOK},
		{"starting_again", "ready", nil, [][]string{{"STATE=ready", "STATE=starting"}}, exitOK},
		{"stopped", "ready", nil, [][]string{{"STATE=ready", "STATE=unreachable", "STATE=stopped"}}, exitOK},
		{"unreachable", "unreachable", []string{"STATE=ready"}, [][]string{{"STATE=unreachable", "STATE=ready"}}, exitOK},
		{"never", "ready", nil, [][]string{{"STATE=booted", "STATE=completed"}}, exitFailed},
		{"plain_event", "ready", nil, [][]string{{"STATE=booted", "KIND=ready"}}, -1},
		{"before", "ready", []string{"STATE=ready", "STATE=starting"}, [][]string{{"STATE=unreachable"}}, -1},
		{"next_run", "failed", nil, [][]string{{"STATE=failed"}, {"STATE=starting"}}, exitOK},
		{"two_runs", "failed", nil, [][]string{{"STATE=failed"}, {"STATE=starting", "STATE=completed"}, {"STATE=starting"}}, exitOK},
		{"other_outcome_of_earlier_run", "ready", nil, [][]string{{"STATE=failed"}, {"STATE=starting"}}, exitFailed},
		{"rotation", "ready", []string{"STATE=booted"}, [][]string{{"STATE=ready"}, {"rotate"}, {"STATE=starting"}}, exitOK},
		{"rotation_before_the_event", "ready", []string{"STATE=booted"}, [][]string{{"rotate"}, {"STATE=ready", "STATE=starting"}}, exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			if c.before != nil {
				ingestLines(t, dir, c.before...)
			}
			o := newWaiter(dir, c.wanted).newObserver()
			defer o.events.Close()
			o.lookAtAll(t)
			if done, err := o.decide(&o.observation); done {
				t.Fatalf("the wait has ended before anything happened: %v", err)
			}
			for _, words := range c.streams {
				if words[0] == "rotate" {
					log := filepath.Join(dir, writer.EventsName)
					testenv.Must(t, os.Rename(log, log+".1"))
					continue
				}
				ingestLines(t, dir, words...)
			}
			o.lookAtAll(t)
			done, err := o.decide(&o.observation)
			code := exitCode(err)
			if !done {
				code = -1
			}
			if code != c.code {
				t.Errorf("exit code %d (%v), want %d", code, err, c.code)
			}
		})
	}
}

// The same with a waiter that runs.
func TestWait_running(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	w := newWaiter(dir, artifact.Ready)
	waiting, ended := make(chan bool), make(chan error)
	w.note = func(string) { close(waiting) }
	go func() {
		_, err := w.wait()
		ended <- err
	}()
	<-waiting
	ingestLines(t, dir, "STATE=booted", "STATE=ready", "STATE=completed")
	select {
	case err := <-ended:
		testenv.Must(t, err)
	case <-time.After(waitLimit):
		t.Fatal("the wait did not end")
	}
}

// If the state directory is removed or renamed, ingest continues in a new one with the next
// seq, and warns. So a wait --after that waits, or begins then, ends.
func TestWait_directory_removed(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"renamed": func(dir string) error { return os.Rename(dir, dir+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startIn(t, filepath.Join(t.TempDir(), "state"), nil)
			p.write("STATE=starting", "STATE=ready")
			p.ackUpTo(2)
			w := newWaiter(p.dir, artifact.Completed)
			w.hasAfter, w.after = true, 2
			ended := make(chan error)
			go func() {
				_, err := w.wait()
				ended <- err
			}()
			testenv.Must(t, remove(p.dir))
			p.write("KIND=ready", "STATE=completed")
			if seq, _ := p.ackUpTo(4); seq != 4 {
				t.Errorf("the last seq is %d; expected 4", seq)
			}
			later := *w
			later.limit = 0
			if _, err := later.wait(); err != nil {
				t.Errorf("a later wait: %v", err)
			}
			select {
			case err := <-ended:
				testenv.Must(t, err)
			case <-time.After(waitLimit):
				t.Error("the wait did not end")
			}
			p.in.Close()
			warning := "pika-cloud-lifecycle: " + p.dir + " was removed or replaced, and now has only what was reported since; remove it only when nothing writes to it\n"
			if stderr := p.exits(exitOK); stderr != warning {
				t.Errorf("stderr is %q; expected %q", stderr, warning)
			}
			ingestLines(t, p.dir, "STATE=stopped")
			p.contains("status.json", `"seq": 5`)
		})
	}
}

// If the status is older than the event, wait reads it again.
func TestWait_settle(t *testing.T) {
	dir := t.TempDir()
	ingestLines(t, dir, "STATE=starting")
	o := newWaiter(dir, artifact.Ready).newObserver()
	defer o.events.Close()
	o.lookAtAll(t)
	old := o.files
	changes, err := watch.Open(dir)
	testenv.Must(t, err)
	defer changes.Close()
	o.changes = changes
	ingestLines(t, dir, "STATE=ready")
	o.lookAtAll(t)
	o.files = old // as if the status had been replaced after the look
	if s := o.settle(); s.Status.State != artifact.Ready {
		t.Errorf("the status is %s", s.Status.State)
	}
	o.log.reached = 100 // an event whose status never comes
	if s := o.settle(); s.Status.State != artifact.Ready {
		t.Errorf("the status is %s", s.Status.State)
	}
}

// waiters is how many waiters wait at the same time.
const waiters = 20

// startWaiters starts waiters for which nothing in the files counts. Each sends its error.
func startWaiters(dir string, limit time.Duration) <-chan error {
	ended := make(chan error, waiters)
	for range waiters {
		go func() {
			w := newWaiter(dir, artifact.Ready)
			w.limit, w.hasAfter, w.after = limit, true, math.MaxUint64
			s, err := w.wait()
			ended <- w.explainError(err, s)
		}()
	}
	return ended
}

// A writer that is killed ends all waits, with exit code 4.
func TestWait_writer_killed(t *testing.T) {
	for _, kind := range []writerlock.Kind{writerlock.Run, writerlock.Ingest} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			var p *process
			if kind == writerlock.Run {
				p = launch(t, dir, nil, "run", "--", "sh", "-c", "echo $$ >"+dir+"/pid; exec sleep 60")
				p.await("pid", "\n")
				t.Cleanup(func() {
					var pid int
					fmt.Sscan(testenv.ReadFile(t, dir+"/pid"), &pid)
					syscall.Kill(pid, syscall.SIGKILL)
				})
			} else {
				p = startIn(t, dir, nil)
				p.write("STATE=starting")
				p.ackUpTo(1)
			}
			ended := startWaiters(dir, -1)
			select {
			case err := <-ended:
				t.Fatalf("a wait has ended although the writer is alive: %v", err)
			case <-time.After(2 * patience):
			}
			killed := time.Now()
			p.signal(syscall.SIGKILL)
			want := fmt.Sprintf("wait: %s with PID %d has died, or could not write its result, and the status in %s is starting (event 1), which is not after event %d; record a failed result with ingest --require-result </dev/null, or start a new run", kind, p.cmd.Process.Pid, dir, uint64(math.MaxUint64))
			for range waiters {
				select {
				case err := <-ended:
					if exitCode(err) != exitDied || err.Error() != want {
						t.Errorf("%v, want %s", err, want)
					}
				case <-time.After(waitLimit):
					t.Fatal("a wait did not end")
				}
			}
			t.Logf("the waits ended %v after the writer", time.Since(killed).Round(time.Millisecond))
		})
	}
}

// With --after, a writer that died before the start position does not end wait: the next run
// may begin late. If the writer has written something after SEQ, its death does end wait.
func TestWait_after_death(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), nil, "run", "--", "sh", "-c", "kill -9 $PPID")
	p.awaitEnd()
	next := make(chan int)
	go func() {
		_, code := p.outputOf("", "wait", "--for", "completed", "--after", "1", "--timeout", "1m")
		next <- code
	}()
	select {
	case code := <-next:
		t.Errorf("wait exits with %d although the next run has not begun", code)
	case <-time.After(2*patience + writersInterval):
		p.succeeds("", "run", "--", "true")
		if code := <-next; code != 0 {
			t.Errorf("wait exits with %d after the next run", code)
		}
	}
	q := launch(t, t.TempDir(), nil, "run", "--", "sh", "-c", "kill -9 $PPID")
	q.awaitEnd()
	if output, code := q.outputOf("", "wait", "--for", "completed", "--after", "0"); code != exitDied {
		t.Errorf("wait exits with %d: %s", code, output)
	}
}

// Changes of the directory do not delay the looks at the writers. Without them, and with
// them, wait ends about a second after it has found a dead writer; if each change delayed
// the next look, it would need 1.6 seconds. On a loaded machine an attempt may take longer.
func TestWait_death_in_busy_directory(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir, nil)
	p.write("STATE=starting")
	p.ackUpTo(1)
	p.signal(syscall.SIGKILL)
	<-p.ended
	var took time.Duration
	for range 10 {
		w := newWaiter(dir, artifact.Ready)
		ended := make(chan error)
		begun := time.Now()
		go func() {
			_, err := w.wait()
			ended <- err
		}()
		changes := time.NewTicker(writersInterval * 4 / 5)
		var err error
		for waiting := true; waiting; {
			select {
			case err = <-ended:
				waiting = false
			case <-changes.C:
				testenv.Must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o644))
			}
		}
		changes.Stop()
		var died *writerDiedError
		if !errors.As(err, &died) {
			t.Fatal(err)
		}
		took = time.Since(begun)
		if took < patience+writersInterval-100*time.Millisecond {
			return
		}
	}
	t.Errorf("the wait ended only after %v", took)
}

// While runs start and end, no wait reports that a writer has died.
func TestWait_no_false_alarm(t *testing.T) {
	dir := t.TempDir()
	ended := startWaiters(dir, 5*time.Second)
	runs := 0
	for left := waiters; left > 0; {
		select {
		case err := <-ended:
			left--
			if !errors.Is(err, errTimeout) {
				t.Errorf("after %d runs: %v", runs, err)
			}
		default:
			launch(t, dir, nil, "run", "--", "true").exits(exitOK)
			runs++
		}
	}
	t.Logf("%d runs", runs)
	if runs == 0 {
		t.Error("nothing ran")
	}
}

// In a directory of a hostile user, wait ends in time, and needs little memory.
func TestWait_hostile_directory(t *testing.T) {
	built, dir := builtProgram(t), testenv.TempDir(t)
	stop := make(chan struct{})
	var hostile sync.WaitGroup
	defer hostile.Wait()
	defer close(stop)
	endlessly := func(f func(n int) error) {
		hostile.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	event := `{"schema_version":1,"kind":"starting","timestamp":"2026-03-25T20:00:00Z","message":"%s","boot_id":"b","seq":1}` + "\n"
	lines := []string{strings.Repeat(fmt.Sprintf(event, "m"), 1000), fmt.Sprintf(event, strings.Repeat("x", 4<<20)), strings.Repeat("x", 1<<20), "\n", strings.Repeat("\n", 1<<16)}
	log, err := os.OpenFile(filepath.Join(dir, writer.EventsName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	testenv.Must(t, err)
	t.Cleanup(func() { log.Close() })
	endlessly(func(n int) error {
		info, err := log.Stat()
		if err == nil && info.Size() > 64<<20 {
			err = log.Truncate(0)
		}
		_, writeErr := log.WriteString(lines[n%len(lines)])
		return errors.Join(err, writeErr)
	})
	status := `{"schema_version":1,"state":"starting","updated_at":"2026-03-25T20:00:00Z","message":"%s"}`
	contents := []string{"", "garbage", fmt.Sprintf(status, "m"), fmt.Sprintf(status, strings.Repeat("x", artifact.MaxSize-200)), strings.Repeat("[", 1<<20)}
	for _, name := range []string{writer.StatusName, writer.ResultName} {
		endlessly(func(n int) error {
			temporary := filepath.Join(dir, "."+name)
			return errors.Join(os.WriteFile(temporary, []byte(contents[n%len(contents)]), 0o644), os.Rename(temporary, filepath.Join(dir, name)))
		})
	}
	record := func(kind string) string { return fmt.Sprintf("%-127s\n", kind+" 1 "+testBoot+" 1:1 1") }
	locks := []string{"", "garbage", strings.Repeat(record("run"), 64), record(strings.Repeat("x", 90)), strings.Repeat("run 1\n", 1<<20)}
	endlessly(func(n int) error {
		return os.WriteFile(filepath.Join(dir, writerlock.Name), []byte(locks[n%len(locks)]), 0o600)
	})

	start, used := time.Now(), 0
	p := launch(t, dir, built, "wait", "--for", "ready", "--boot", "any", "--timeout", "2s")
	for running := true; running; {
		select {
		case <-p.ended:
			running = false
		case <-time.After(20 * time.Millisecond):
			used = max(used, peakMemoryOf(p.cmd.Process.Pid))
		}
	}
	took := time.Since(start)
	t.Logf("%v, peak memory %.1f MiB", took.Round(time.Millisecond), float64(used)/1024)
	p.exits(exitTimeout)
	if took > 60*time.Second {
		t.Errorf("wait took %v", took)
	}
	if used == 0 || used > 80<<10 {
		t.Errorf("%d KiB of memory; expected 81920 at most", used)
	}
}

// peakMemoryOf returns the peak memory of a process in KiB; 0 if it has ended.
func peakMemoryOf(pid int) (used int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, line, _ := strings.Cut(string(text), "VmHWM:")
	fmt.Sscan(line, &used)
	return used
}

// If a limit of inotify is reached, wait polls, and warns once.
func TestWait_inotify_limit(t *testing.T) {
	if !testenv.AloneWithUsers(t) {
		return
	}
	testenv.Must(t, os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0))
	dir := t.TempDir()
	var warnings []string
	w := newWaiter(dir, artifact.Ready)
	w.warn = func(text string) { warnings = append(warnings, text) }
	w.note = func(string) {
		go func() {
			time.Sleep(3 * writersInterval) // several looks
			s := artifact.Status{State: artifact.Ready, Time: time.Now(), Message: strictjson.AppendText(nil, "m"), BootID: testBoot}
			if err := writer.In(dir).Status.Replace(&s); err != nil {
				t.Error(err)
			}
		}()
	}
	_, err := w.wait()
	testenv.Must(t, err)
	want := "wait: the limit fs.inotify.max_user_instances is reached, so changes are noticed only once a second; raise it, as in sysctl -w fs.inotify.max_user_instances=100000"
	if len(warnings) != 1 || warnings[0] != want {
		t.Errorf("%q, want %q", warnings, want)
	}
}

// The same for show --follow.
func TestFollow_inotify_limit(t *testing.T) {
	if !testenv.AloneWithUsers(t) {
		return
	}
	testenv.Must(t, os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("0"), 0))
	stderr := make(lineWriter, 10)
	f := startFollower(t, filepath.Join(t.TempDir(), "run"), stderr)
	f.awaitLine("no status")
	f.awaitLine("no result")
	f.appendEvent(0, "one")
	f.awaitLine("  one")
	f.appendEvent(0, "two")
	f.awaitLine("  two")
	if got := <-stderr; !strings.HasPrefix(got, "pika-cloud-lifecycle: show: the limit fs.inotify.max_user_watches is reached, ") || len(stderr) > 0 {
		t.Errorf("stderr %q, and %d more lines", got, len(stderr))
	}
}
