package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// crash kills ingest under load. The next writer repairs the files, and every
// acknowledged line is there.
func (b *bench) crash() (string, error) {
	total := 0
	for round := range 3 {
		name := fmt.Sprintf("crash-%d", round)
		b.name = name
		s, err := b.stream()
		if err != nil {
			return "", err
		}
		acked, err := s.feed(lines("line", 2000), 10+50*round)
		if err != nil {
			return "", err
		}
		if acked, err = s.kill(acked); err != nil {
			return "", err
		}
		if _, err := b.next(acked); err != nil {
			return "", err
		}
		total += acked
	}
	return fmt.Sprintf("%d lines were acknowledged", total), nil
}

// next runs the next writer after a crash. Then every acknowledged line must be there. The
// next writer of the status removes the temporary files of the killed one.
func (b *bench) next(acked int) (string, error) {
	if err := b.event("next"); err != nil {
		return "", err
	}
	if err := b.hasLines(acked); err != nil {
		return "", fmt.Errorf("%d lines were acknowledged: %w", acked, err)
	}
	if err := b.must("status", "--state=ready", "--message=next"); err != nil {
		return "", err
	}
	if found := b.temporaries(); len(found) > 0 {
		return "", fmt.Errorf("the next writer of the status has not removed %q", found)
	}
	return fmt.Sprintf("%d lines were acknowledged", acked), nil
}

// hasLines checks that the log and the status have the lines 1 to acked, and that the
// log ends with the event of the next writer.
func (b *bench) hasLines(acked int) error {
	events, err := b.log(1)
	if err != nil {
		return err
	}
	if len(events) < acked+1 {
		return fmt.Errorf("%d events", len(events))
	}
	for i, e := range events[:len(events)-1] {
		if want := fmt.Sprintf("line-%d", i+1); e.Message != want {
			return fmt.Errorf("event %d is %q", i+1, e.Message)
		}
	}
	if last := events[len(events)-1].Message; last != "next" {
		return fmt.Errorf("the last event is %q", last)
	}
	status, err := b.artifact("status.json")
	if err != nil {
		return err
	}
	var line int
	if _, err := fmt.Sscanf(status.Message, "line-%d", &line); err != nil || line < acked {
		return fmt.Errorf("the status is that of %q", status.Message)
	}
	return nil
}

// seq runs several writers at the same time.
func (b *bench) seq() (string, error) {
	const streamed, writers, each = 100, 4, 6
	jobs := []func() error{func() error { return b.ingest(lines("stream", streamed)) }}
	for range writers {
		jobs = append(jobs, func() error {
			for range each {
				if err := b.event("one-shot"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	total := streamed + writers*each
	if b.python != nil {
		const messages = 20
		total += writers * messages
		for range writers {
			args := append(b.python[1:len(b.python):len(b.python)], "event", b.path("events.jsonl"))
			for range messages {
				args = append(args, "python")
			}
			jobs = append(jobs, func() error {
				if code, text := output(exec.Command(b.python[0], args...)); code != 0 {
					return fmt.Errorf("the Python writer: exit %d: %s", code, text)
				}
				return nil
			})
		}
	}
	errs := make([]error, len(jobs))
	var group sync.WaitGroup
	for i, job := range jobs {
		group.Go(func() { errs[i] = job() })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d events of %d writers", total, len(jobs)), b.hasEvents(total)
}

// replace polls the status and the result while they are replaced.
func (b *bench) replace() (string, error) {
	if err := errors.Join(b.must("status", "--state=starting", "--message=0"),
		b.must("result", "--status=failed", "--exit-code=1", "--message=0")); err != nil {
		return "", err
	}
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	names := []string{"status.json", "result.json"}
	reads, errs := make([]int, len(names)), make([]error, 2*len(names))
	for i, name := range names {
		readers.Go(func() {
			for !done.Load() && errs[i] == nil {
				_, errs[i] = b.artifact(name)
				reads[i]++
				time.Sleep(100 * time.Microsecond) // leave the processor to the writers
			}
		})
	}
	writers.Go(func() { errs[2] = b.replaceStatus() })
	writers.Go(func() { errs[3] = b.replaceResult() })
	writers.Wait()
	done.Store(true)
	readers.Wait()
	return fmt.Sprintf("%d reads of the status, %d of the result", reads[0], reads[1]), errors.Join(errs...)
}

func (b *bench) replaceStatus() error {
	s, err := b.stream()
	if err != nil {
		return err
	}
	for i := range 80 { // each line is a commit, because the next one follows its acknowledgement
		fmt.Fprintf(s.in, "STATE=ready MESSAGE=%s\n", strings.Repeat("s", i*40))
		if _, err := s.acked(i + 1); err != nil {
			return err
		}
	}
	return s.end()
}

func (b *bench) replaceResult() error {
	for i := range 10 {
		if err := b.must("result", "--status=failed", "--exit-code=1", "--message="+strings.Repeat("r", i*400)); err != nil {
			return err
		}
	}
	return nil
}

// rotation writes more than fits into a log.
func (b *bench) rotation() (string, error) {
	const n, size = 100, 4 << 10
	s, err := b.stream(fmt.Sprintf("--max-events=%d", size))
	if err != nil {
		return "", err
	}
	if _, err := s.feed(lines("line", n), n); err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	for _, name := range []string{"events.jsonl", "events.jsonl.1"} {
		info, err := os.Stat(b.path(name))
		if err != nil {
			return "", err
		}
		if info.Size() > size {
			return "", fmt.Errorf("%s has %d bytes", name, info.Size())
		}
	}
	events, err := b.log(0)
	if err != nil {
		return "", err
	}
	first := n - uint64(len(events)) + 1
	_, err = b.log(first)
	return fmt.Sprintf("events %d to %d remain", first, n), err
}

// write adds text to the end of the log, as a foreign writer.
func (b *bench) write(text string) error {
	f, err := os.OpenFile(b.path("events.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// torn leaves a torn line for the next writer.
func (b *bench) torn() (string, error) {
	const text = `{"schema_version":1,"ki`
	if err := errors.Join(b.event("1"), b.write(text), b.event("2")); err != nil {
		return "", err
	}
	if err := b.hasEvents(2); err != nil {
		return "", err
	}
	moved, err := os.ReadFile(b.path("events.jsonl.torn"))
	if err == nil && string(moved) != text+"\n" {
		err = fmt.Errorf("events.jsonl.torn contains %q", moved)
	}
	return "", err
}

// verify checks the files of a finished run.
func (b *bench) verify() (string, error) {
	if err := b.ingest(append(lines("line", 5), "STATE=failed EXIT_CODE=4 MESSAGE=end\n")); err != nil {
		return "", err
	}
	return "", b.must("verify")
}

// repair lets verify repair a log with an invalid line and a seq that repeats.
func (b *bench) repair() (string, error) {
	if err := errors.Join(b.event("1"), b.event("2")); err != nil {
		return "", err
	}
	text, err := os.ReadFile(b.path("events.jsonl"))
	if err != nil {
		return "", err
	}
	_, last, _ := strings.Cut(string(text), "\n")
	damaged := "garbage\n" + strings.Replace(last, `"message":"2"`, `"message":"3"`, 1)
	if err := b.write(damaged); err != nil {
		return "", err
	}
	if code, text := b.exec("verify"); code != 1 {
		return "", fmt.Errorf("verify before the repair: exit %d: %s", code, text)
	}
	if err := b.must("verify", "--repair"); err != nil {
		return "", err
	}
	if err := b.hasEvents(3); err != nil {
		return "", fmt.Errorf("after the repair: %w", err)
	}
	kept, err := filepath.Glob(b.path("events.jsonl.damaged*"))
	if err != nil || len(kept) != 1 {
		return "", fmt.Errorf("%q instead of one copy of the old log", kept)
	}
	old, err := os.ReadFile(kept[0])
	if err == nil && string(old) != string(text)+damaged {
		err = fmt.Errorf("%s contains %q", kept[0], old)
	}
	return "", err
}

// wait waits for a status that is written here.
func (b *bench) wait() (string, error) {
	return b.waitFor(func() error { return b.must("status", "--state=ready", "--message=now") })
}

// waitOther waits for a status that is written without this file system.
func (b *bench) waitOther() (string, error) {
	switch b.other {
	case "":
		return "", skip("nothing else can write to it")
	case "host": // writes as soon as it reads this line
		return b.waitFor(func() error { _, err := fmt.Println("@WRITE", b.name); return err })
	}
	below := *b
	below.root = b.other
	return b.waitFor(func() error { return below.must("status", "--state=ready", "--message=now") })
}

// noticed is the longest time in which wait must notice a change. The program needs
// some of it to end.
const noticed = 10 * time.Second

// waitFor measures how long wait needs to notice what write has written.
func (b *bench) waitFor(write func() error) (string, error) {
	if err := b.must("status", "--state=starting", "--message=before"); err != nil {
		return "", err
	}
	ended := make(chan error)
	go func() { ended <- b.must("wait", "--for=ready", "--boot=any", "--timeout=20s") }()
	time.Sleep(500 * time.Millisecond) // wait has started, and reads nothing before the next change
	if err := write(); err != nil {
		return "", errors.Join(err, <-ended)
	}
	written := time.Now()
	err := <-ended
	took := time.Since(written).Round(10 * time.Millisecond)
	if err == nil && took > noticed {
		err = fmt.Errorf("wait ended %v after the change", took)
	}
	return fmt.Sprintf("wait ended %v after the change", took), err
}

// links checks that the program does not follow a symbolic link, and does not write to
// a file with a second link.
func (b *bench) links() (string, error) {
	if err := b.event("1"); err != nil {
		return "", err
	}
	outside, log := b.path("outside"), b.path("events.jsonl")
	tried := []string{}
	for name, link := range map[string]func(string, string) error{"symbolic links": os.Symlink, "hard links": os.Link} {
		if err := os.WriteFile(outside, nil, 0o600); err != nil {
			return "", err
		}
		os.Remove(log)
		err := link(outside, log)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			continue
		}
		if err != nil {
			return "", err
		}
		tried = append(tried, name)
		if code, text := b.exec("event", "--kind=ready", "--message=2"); code != 1 {
			return "", fmt.Errorf("with %s: exit %d: %s", name, code, text)
		}
		if text, err := os.ReadFile(outside); err != nil || len(text) > 0 {
			return "", errors.Join(fmt.Errorf("with %s, the file outside contains %q", name, text), err)
		}
	}
	if len(tried) == 0 {
		return "", skip("the file system has no links")
	}
	return strings.Join(tried, " and "), nil
}

// modes checks the modes of the files.
func (b *bench) modes() (string, error) {
	if err := b.ingest(append(lines("line", 2), "STATE=failed EXIT_CODE=4 MESSAGE=end\n")); err != nil {
		return "", err
	}
	for name, want := range map[string]fs.FileMode{"events.jsonl": 0o644, "status.json": 0o644, "result.json": 0o644, "events.jsonl.seq": 0o600} {
		info, err := os.Stat(b.path(name))
		if err != nil {
			return "", err
		}
		if mode := info.Mode().Perm(); mode != want {
			return "", fmt.Errorf("%s has mode %#o instead of %#o", name, mode, want)
		}
	}
	return "", nil
}

// full fills the file system before the result is written, and empties it again.
func (b *bench) full() (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.root, &st); err != nil {
		return "", err
	}
	if free := st.Bavail * uint64(st.Bsize); free > 1<<30 {
		return "", skip(fmt.Sprintf("%d MiB are free", free>>20))
	}
	s, err := b.stream()
	if err != nil {
		return "", err
	}
	io.WriteString(s.in, "STATE=starting MESSAGE=start\n")
	if _, err := s.acked(1); err != nil {
		return "", err
	}
	filler := b.path("filler")
	defer os.Remove(filler)
	if err := fill(filler, int64(st.Bavail)*st.Bsize); err != nil {
		return "", err
	}
	go fmt.Fprintf(s.in, "STATE=failed EXIT_CODE=4 MESSAGE=%s\n", strings.Repeat("x", 200<<10)) // too large for a free part of a block
	for until := time.Now().Add(10 * time.Second); !strings.Contains(s.printed(), unix.ENOSPC.Error()); {
		if time.Now().After(until) {
			_, err := s.kill(0)
			return "", errors.Join(err, skip("ingest could still write: "+s.printed()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := os.Remove(filler); err != nil {
		return "", err
	}
	if _, err := s.acked(2); err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	if err := b.hasEvents(2); err != nil {
		return "", err
	}
	result, err := b.artifact("result.json")
	if err == nil && (result.ExitCode != 4 || result.Seq != 2) {
		err = fmt.Errorf("the result has exit code %d and seq %d", result.ExitCode, result.Seq)
	}
	return "the result was written when there was space", err
}

// fill writes a file until no space is left.
func fill(path string, free int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fallocate(int(f.Fd()), 0, 0, free) // saves time, if the file system can
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	for size := 1 << 20; size >= 512; size /= 8 {
		block := make([]byte, size)
		for {
			if _, err = f.Write(block); err != nil {
				break
			}
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
	if err := f.Sync(); !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return nil
}
