package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// numbered returns a status whose fields all contain n and whose length depends on
// n, so a reader can detect a mixture of two.
func numbered(n int) *artifact.Status {
	return &artifact.Status{State: artifact.Ready, Time: testTime, BootID: fmt.Sprint("boot ", n), Seq: uint64(n),
		Message: quoted(fmt.Sprint("status ", n)), Details: quoted(strings.Repeat(fmt.Sprint(n, " "), n%700))}
}

func statusIn(dir string) *StatusFile {
	return &StatusFile{Path: filepath.Join(dir, StatusName)}
}

// Two processes replace the status 2,000 times. A reader always finds a complete
// status.
func TestReplace_concurrent_reader(t *testing.T) {
	dir := testenv.TempDir(t)
	f := statusIn(dir)
	testenv.Must(t, f.Replace(numbered(1)))
	stop := startChild(t, child("replace", f.Path, "2", "2000"))
	var readers sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for seen := 0; ; seen++ {
				select {
				case <-over:
					if seen == 0 {
						t.Error("the reader never read the status")
					}
					return
				default:
				}
				if err := readNumbered(f.Path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := 3; n <= 2000; n += 2 {
		testenv.Must(t, f.Replace(numbered(n)))
	}
	testenv.Must(t, stop())
	close(over)
	readers.Wait()
	wantNames(t, dir, StatusName)
}

// readNumbered reads the status as the host does, and checks that it is complete.
func readNumbered(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	status, err := new(artifact.Decoder).Status(text)
	if err != nil || string(numbered(int(status.Seq)).Append(nil)) != string(text) {
		return fmt.Errorf("not complete: %.200q, %v", text, err)
	}
	return nil
}

// childReplace replaces the status by the numbered statuses of a range, every second
// one.
func childReplace(args []string) error {
	first, err := strconv.Atoi(args[1])
	last, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	fmt.Println("ready")
	f := StatusFile{Path: args[0]}
	for n := first; n <= last; n += 2 {
		if err := f.Replace(numbered(n)); err != nil {
			return err
		}
	}
	return nil
}

// A writer removes the stale temporary files of its user, and no other files.
func TestTemporaries_removed(t *testing.T) {
	dir := testenv.TempDir(t)
	stay := []string{
		".status.json", ".status.json1", ".status.json99999999999999", // 14 digits
		".status.json12345678901234567890", ".status.json1234567890123456x", ".status.json-123456789012345",
		".status.json.123456789012345", "status.json123456789012345", ".result.json123456789012345",
		".status.json.tmp", ".Status.json123456789012345", "..status.json123456789012345",
	}
	for _, name := range append(stay, ".status.json123456789012345", ".status.json9223372036854775807") {
		put(t, filepath.Join(dir, name), "left")
	}
	const live, linked = ".status.json222222222222222", ".status.json333333333333333"
	release := holdHere(t, filepath.Join(dir, live))
	put(t, filepath.Join(dir, "foreign"), "foreign")
	testenv.Must(t, os.Symlink("foreign", filepath.Join(dir, linked)))
	testenv.Must(t, os.Mkdir(filepath.Join(dir, ".status.json444444444444444"), 0o755))
	stay = append(stay, "foreign", linked, ".status.json444444444444444")

	first := statusIn(dir)
	testenv.Must(t, first.Replace(numbered(1)))
	wantSet(t, dir, append(stay, live, StatusName)...)
	release()
	testenv.Must(t, first.Replace(numbered(2))) // not its first write, so it removes nothing
	wantSet(t, dir, append(stay, live, StatusName)...)
	testenv.Must(t, statusIn(dir).Replace(numbered(3)))
	wantSet(t, dir, append(stay, StatusName)...)
}

// The writer of result.json also removes the stale temporary files of
// result.json.prev, which is rarely written.
func TestTemporaries_of_previous_result(t *testing.T) {
	dir := testenv.TempDir(t)
	for _, name := range []string{".result.json", ".result.json.prev", ".status.json.prev"} {
		put(t, filepath.Join(dir, name+"123456789012345"), "left")
	}
	f := &ResultFile{Path: filepath.Join(dir, ResultName)}
	testenv.Must(t, f.Replace(testResult()))
	wantSet(t, dir, ResultName, ".status.json.prev123456789012345")
	testenv.Must(t, statusIn(dir).Replace(numbered(1)))
	wantSet(t, dir, ResultName, StatusName, ".status.json.prev123456789012345")
}

// wantSet checks that dir contains exactly the files want.
func wantSet(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	testenv.Must(t, err)
	left := map[string]bool{}
	for _, name := range want {
		left[name] = true
	}
	for _, e := range entries {
		if !left[e.Name()] {
			t.Errorf("%s is still there", e.Name())
		}
		delete(left, e.Name())
	}
	for name := range left {
		t.Errorf("%s is gone", name)
	}
}

// A temporary file looks stale until its writer has locked it. A writer whose file
// is removed in that moment creates another one. During each replace, other writers
// remove fewer files than the replace has attempts.
func TestTemporaries_removed_during_replace(t *testing.T) {
	dir := testenv.TempDir(t)
	f, sweeper := statusIn(dir), statusIn(dir)
	testenv.Must(t, sweeper.current.open(sweeper.Path))
	begin, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for range begin {
			for range maxAttempts / 2 {
				sweeper.current.removeStale()
			}
			done <- struct{}{}
		}
	}()
	for n := range 4000 {
		begin <- struct{}{}
		err := f.Replace(numbered(n))
		<-done
		if err != nil {
			t.Errorf("replace %d: %v", n, err)
			break
		}
	}
	close(begin)
	<-done
	wantNames(t, dir, StatusName)
}

// Each of many writers removes stale temporary files before its first write. None
// removes a file that another one needs.
func TestReplace_many_first_writers(t *testing.T) {
	dir := testenv.TempDir(t)
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for n := range 50 {
				f := statusIn(dir)
				if err := f.Replace(numbered(1000*w + n)); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
				f.current.Close()
			}
		})
	}
	writers.Wait()
	testenv.Must(t, readNumbered(filepath.Join(dir, StatusName)))
	wantNames(t, dir, StatusName)
}

// CopyToPrevious copies the result, and MoveToPrevious renames it. If there is no
// result, both keep the previous one.
func TestResult_previous(t *testing.T) {
	result := func(seq uint64) *artifact.Result {
		return &artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("m"), Seq: seq}
	}
	text := func(seq uint64) string { return string(result(seq).Append(nil)) }
	dir := testenv.TempDir(t)
	f := &ResultFile{Path: filepath.Join(dir, ResultName)}
	testenv.Must(t, errors.Join(f.CopyToPrevious(), f.MoveToPrevious()))
	wantNames(t, dir)
	testenv.Must(t, f.Replace(result(1)))
	testenv.Must(t, f.CopyToPrevious())
	if testenv.ReadIfExists(t, f.Path) != text(1) || testenv.ReadIfExists(t, f.Path+".prev") != text(1) {
		t.Error("the result was not copied")
	}
	testenv.Must(t, f.Replace(result(2)))
	testenv.Must(t, f.MoveToPrevious())
	if testenv.ReadIfExists(t, f.Path+".prev") != text(2) {
		t.Error("the result was not moved")
	}
	testenv.Must(t, errors.Join(f.CopyToPrevious(), f.MoveToPrevious()))
	wantNames(t, dir, ResultName+".prev")
	if testenv.ReadIfExists(t, f.Path+".prev") != text(2) {
		t.Error("the previous result was changed")
	}
}

// After the directory has been renamed and created again, the next status is
// written to the new one.
func TestReplace_directory_replaced(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "a", "state")
	f := statusIn(dir)
	testenv.Must(t, f.Replace(numbered(1)))
	testenv.Must(t, os.Rename(dir, dir+".away"))
	testenv.Must(t, f.Replace(numbered(2)))
	testenv.Must(t, readNumbered(f.Path))
	if got := testenv.ReadIfExists(t, filepath.Join(dir+".away", StatusName)); got != string(numbered(1).Append(nil)) {
		t.Errorf("%q", got)
	}
}

// On a read-only file system, every write returns an error, also for root.
func TestReplace_read_only_file_system(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0755"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	d := In(dir)
	testenv.Must(t, d.Status.Replace(numbered(1)))
	appendTo(t, &d.Events, "event 1")
	d.Events.close() // mount(2) fails while a file is open for writing
	testenv.Must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	wantCause(t, d.Status.Replace(numbered(2)), d.Status.Path, unix.EROFS)
	wantCause(t, tryAppend(&d.Events, batchOf("event 2")), d.Events.Path, unix.EROFS)
	testenv.Must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, ""))
	testenv.Must(t, readNumbered(d.Status.Path))
	if seq := appendTo(t, &d.Events, "event 2"); seq != 2 || testenv.ReadIfExists(t, d.Events.Path) != testLines(1, 2) {
		t.Errorf("seq %d:\n%s", seq, testenv.ReadIfExists(t, d.Events.Path))
	}
}
