package writer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// setLimit sets a soft resource limit. undo restores the old one.
func setLimit(t *testing.T, resource int, value uint64) (undo func()) {
	t.Helper()
	var old unix.Rlimit
	testenv.Must(t, unix.Getrlimit(resource, &old))
	testenv.Must(t, unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: old.Max}))
	return func() { testenv.Must(t, unix.Setrlimit(resource, &old)) }
}

// wantCause checks that err names a path in dir and wraps one of the causes.
func wantCause(t *testing.T, err error, dir string, causes ...error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, expected an error that names a path in %s", err, dir)
	}
	for _, cause := range causes {
		if errors.Is(err, cause) {
			return
		}
	}
	t.Errorf("%v, expected %v", err, causes)
}

// RLIMIT_FSIZE is set to each byte of an append. At the first byte, the write fails;
// at the others, it is short. The log is unchanged afterwards, and the next append
// succeeds.
func TestEventLog_file_size_limit(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	dir := testenv.TempDir(t)
	l := logIn(dir)
	want := testLines(1, 2)
	appendTo(t, l, "event 1", "event 2")
	for i := range len(testLines(100, 101)) {
		seq := uint64(3 + 2*i)
		b := batchOf(fmt.Sprint("event ", seq), fmt.Sprint("event ", seq+1))
		added := testLines(seq, seq+1)
		undo := setLimit(t, unix.RLIMIT_FSIZE, uint64(len(want)+i%len(added)))
		for range 2 {
			wantCause(t, tryAppend(l, b), l.Path, unix.EFBIG, io.ErrShortWrite)
			if got := testenv.ReadIfExists(t, l.Path); got != want {
				t.Fatalf("limit at byte %d: the log:\n%s", i, got)
			}
		}
		undo()
		testenv.Must(t, tryAppend(l, b))
		if want += added; testenv.ReadIfExists(t, l.Path) != want || b.Seq(0) != seq || b.Seq(1) != seq+1 {
			t.Fatalf("limit at byte %d: seqs %v:\n%s", i, seqs(b), testenv.ReadIfExists(t, l.Path))
		}
	}
	if got := testenv.ReadIfExists(t, l.Path+".torn"); got != "" {
		t.Errorf("%q was moved to the .torn file", got)
	}
}

// A file that is replaced is unchanged if the file size limit makes the write fail.
func TestReplace_file_size_limit(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	dir := testenv.TempDir(t)
	d := In(dir)
	old := artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("old")}
	testenv.Must(t, d.Result.Replace(&old))
	next := artifact.Result{Outcome: artifact.OutcomeCompleted, Time: testTime, Message: quoted("next")}
	for size := range len(next.Append(nil)) {
		undo := setLimit(t, unix.RLIMIT_FSIZE, uint64(size))
		wantCause(t, d.Result.Replace(&next), d.Result.Path, unix.EFBIG)
		undo()
		if got := testenv.ReadIfExists(t, d.Result.Path); got != string(old.Append(nil)) {
			t.Fatalf("limit %d: %q", size, got)
		}
	}
	wantNames(t, dir, "result.json") // no temporary file is left
	testenv.Must(t, d.Result.Replace(&next))
	if got := testenv.ReadIfExists(t, d.Result.Path); got != string(next.Append(nil)) {
		t.Errorf("%q", got)
	}
}

// wantNames checks that dir contains exactly these files.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	testenv.Must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s contains %q, expected %q", dir, got, want)
	}
}

// Writes to a full tmpfs fail, and leave the log and the status unchanged.
func TestEventLog_full_disk(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24k,mode=0755"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	d := In(dir)
	status := artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("old")}
	testenv.Must(t, d.Status.Replace(&status))
	ballast := filepath.Join(dir, "ballast")
	put(t, ballast, strings.Repeat("x", 4096))
	want := fillLog(t, &d.Events)
	status.Message = quoted(strings.Repeat("next", 1000))
	wantCause(t, d.Status.Replace(&status), d.Status.Path, unix.ENOSPC)
	if got := testenv.ReadIfExists(t, d.Status.Path); !strings.Contains(got, `"old"`) {
		t.Errorf("%q", got)
	}
	testenv.Must(t, os.Remove(ballast))
	appendTo(t, &d.Events, fmt.Sprint("event ", want+1))
	if got := testenv.ReadIfExists(t, d.Events.Path); got != testLines(1, want+1) {
		t.Errorf("the log:\n%s", got)
	}
	wantNames(t, dir, EventsName, EventsName+".seq", StatusName)
}

// fillLog appends until the file system is full, and returns the last seq. It
// appends three events at a time and then one, so that some writes are short.
func fillLog(t *testing.T, l *EventLog) (last uint64) {
	t.Helper()
	for n := uint64(3); n > 0; {
		b := new(Batch)
		for i := range n {
			b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(fmt.Sprint("event ", last+1+i))})
		}
		if err := tryAppend(l, b); err == nil {
			last += n
			continue
		} else {
			wantCause(t, err, l.Path, unix.ENOSPC, io.ErrShortWrite)
		}
		if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, last) {
			t.Fatalf("the log:\n%s", got)
		}
		n--
	}
	if last < 50 {
		t.Fatalf("full after %d events", last)
	}
	return last
}

// Appends to an empty log that fail use no seqs, neither for the EventLog that retries
// nor for a new one. If the seq file cannot be corrected, the number in it counts for
// the new one, but not for the one that wrote it.
func TestEventLog_failed_appends_use_no_seqs(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24k,mode=0755"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	put(t, ballast, strings.Repeat("x", 16<<10))
	l, other := logIn(dir), logIn(dir)
	events := batchOf(strings.Split(strings.Repeat("a message of an event,", 39)+"the last", ",")...)
	for range 8 {
		wantCause(t, tryAppend(l, events), l.Path, unix.ENOSPC, io.ErrShortWrite)
		wantCause(t, tryAppend(other, events), l.Path, unix.ENOSPC, io.ErrShortWrite)
	}
	if got := testenv.ReadIfExists(t, l.Path+".seq"); got != "0\n" {
		t.Errorf("the seq file contains %q", got)
	}
	put(t, l.Path+".seq", "41\n") // written by another process, which may have used the numbers
	wantCause(t, tryAppend(l, events), l.Path, unix.ENOSPC, io.ErrShortWrite)
	testenv.Must(t, os.Remove(ballast))
	testenv.Must(t, tryAppend(l, events))
	if first := events.Seq(0); first != 42 {
		t.Errorf("the first event has seq %d, expected 42", first)
	}
}

// If the seq file cannot be corrected after a failed append, its number is still not in
// use for the EventLog that wrote it. After a success it is.
func TestEventLog_unused_seqs(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	appendTo(t, l, "one", "two")
	testenv.Must(t, os.Truncate(l.Path, 0))
	l.unused = &unusedSeqs{text: "2\n", last: 0}
	if seq := appendTo(t, l, "three"); seq != 1 {
		t.Errorf("seq %d, expected 1", seq)
	}
	testenv.Must(t, os.Truncate(l.Path, 0))
	if seq := appendTo(t, l, "four"); seq != 2 {
		t.Errorf("seq %d, expected 2", seq)
	}
}

// AppendLeading appends the first events and rejected lines that fit, byte for byte as
// Append would, and leaves the reserve free.
func TestAppendLeading(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0755"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	d := In(dir)
	d.Rejects.MaxBytes = 1 << 20
	var messages []string
	for i := range 500 {
		messages = append(messages, fmt.Sprint("event ", i+1))
	}
	b := batchOf(messages...)
	unlock, err := d.Events.Lock()
	testenv.Must(t, err)
	defer unlock()
	total := 0
	for _, reserve := range []int64{24 << 10, 8 << 10} {
		written, err := d.Events.AppendLeading(b, reserve)
		total += written.Len()
		wantCause(t, err, d.Events.Path, unix.ENOSPC)
		free, err := d.Free()
		testenv.Must(t, err)
		if written.Len() == 0 || free < reserve || free > reserve+12<<10 {
			t.Errorf("%d events, %d bytes free with a reserve of %d", written.Len(), free, reserve)
		}
	}
	line := strings.Repeat("r", 99) + "\n"
	rest, err := d.Rejects.AppendLeading([]byte(strings.Repeat(line, 100)), 1)
	wantCause(t, err, d.Rejects.Path, unix.ENOSPC)
	if kept := testenv.ReadIfExists(t, d.Rejects.Path); len(kept) < 2000 || strings.Repeat(line, 100) != kept+string(rest) {
		t.Errorf("%d bytes of rejected lines are kept, %d remain", len(kept), len(rest))
	}
	written, err := d.Events.AppendLeading(b, 0)
	wantCause(t, err, d.Events.Path, unix.ENOSPC)
	total += written.Len()
	if got := testenv.ReadIfExists(t, d.Events.Path); got != testLines(1, uint64(total)) || b.Len() != 500-total {
		t.Errorf("%d events were appended, %d remain; the log:\n%s", total, b.Len(), got)
	}
	if free, _ := d.Free(); free > 0 {
		t.Errorf("%d bytes are free", free)
	}
	rest, err = d.Rejects.AppendLeading([]byte(line), 0)
	if err != nil && !errors.Is(err, unix.ENOSPC) || (err == nil) != (len(rest) == 0) {
		t.Errorf("%q remains: %v", rest, err)
	}
}

// A log that cannot be renamed is appended to. RotateError returns why, until a rotation
// succeeds.
func TestEventLog_rotation_fails(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.RotateAt = 1
	appendTo(t, l, "event 1")
	testenv.Must(t, os.Mkdir(l.Path+".1", 0o755))
	for n := 2; n <= 4; n++ {
		appendTo(t, l, fmt.Sprint("event ", n))
		wantCause(t, l.RotateError(), l.Path, unix.EISDIR)
	}
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 4) {
		t.Errorf("the log:\n%s", got)
	}
	testenv.Must(t, os.Remove(l.Path+".1"))
	if seq := appendTo(t, l, "event 5"); seq != 5 || l.RotateError() != nil {
		t.Errorf("seq %d, %v", seq, l.RotateError())
	}
	if got := testenv.ReadIfExists(t, l.Path+".1"); got != testLines(1, 4) {
		t.Errorf("the rotated log:\n%s", got)
	}
}

// A torn line stays in the log while the disk has no space to copy it to the .torn
// file.
func TestEventLog_full_disk_torn_tail(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24k,mode=0755"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	l := logIn(dir)
	tail := strings.Repeat("torn", 1000)
	put(t, l.Path, testLines(1, 2)+tail)
	put(t, l.Path+".seq", "2\n")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("%v", err)
	}
	for range 3 {
		wantCause(t, tryAppend(l, batchOf("event 3")), l.Path, unix.ENOSPC, io.ErrShortWrite)
		if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 2)+tail {
			t.Fatalf("the log:\n%.1000s", got)
		}
	}
	testenv.Must(t, os.Remove(ballast))
	appendTo(t, l, "event 3")
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 3) {
		t.Errorf("the log:\n%s", got)
	}
	if got := testenv.ReadIfExists(t, l.Path+".torn"); !strings.HasSuffix(got, tail+"\n") {
		t.Errorf("%d bytes were moved to the .torn file", len(got))
	}
}

// In a directory without write permission, every write fails with EACCES and
// leaves no file.
func TestDir_not_writable(t *testing.T) {
	testenv.Root(t)
	if !testenv.Alone(t) {
		return
	}
	dir := filepath.Join(testenv.TempDir(t), "state")
	testenv.Must(t, os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755))
	testenv.OpenToAll(t, dir)
	asNobody(t, func() {
		d := In(dir)
		d.Rejects.MaxBytes = 1 << 10
		wantCause(t, tryAppend(&d.Events, batchOf("m")), d.Events.Path+".seq", unix.EACCES)
		wantCause(t, d.Rejects.Append([]byte("{}\n")), d.Rejects.Path, unix.EACCES)
		wantCause(t, d.Status.Replace(&artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("m")}), d.Status.Path, unix.EACCES)
		wantCause(t, d.Result.Replace(&artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("m")}), d.Result.Path, unix.EACCES)
		below := In(filepath.Join(dir, "a", "b"))
		wantCause(t, tryAppend(&below.Events, batchOf("m")), dir, unix.EACCES)
	})
	wantNames(t, dir)
}

// A writer can replace files of another user with mode 0644 if it may write to the
// directory, but it cannot append to them.
func TestDir_files_of_another_user(t *testing.T) {
	testenv.Root(t)
	if !testenv.Alone(t) {
		return
	}
	dir := testenv.TempDir(t)
	testenv.OpenToAll(t, dir)
	d := In(dir)
	appendTo(t, &d.Events, "event 1")
	testenv.Must(t, d.Status.Replace(&artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("old")}))
	testenv.Must(t, os.Chmod(dir, 0o777))
	asNobody(t, func() {
		d := In(dir)
		wantCause(t, tryAppend(&d.Events, batchOf("m")), d.Events.Path+".seq", unix.EACCES)
		testenv.Must(t, d.Status.Replace(&artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("next")}))
	})
	testenv.Must(t, os.Chmod(d.Events.Path+".seq", 0o666))
	asNobody(t, func() {
		d := In(dir)
		wantCause(t, tryAppend(&d.Events, batchOf("m")), d.Events.Path, unix.EACCES)
	})
	if seq := appendTo(t, &d.Events, "event 2"); seq != 2 || testenv.ReadIfExists(t, d.Events.Path) != testLines(1, 2) {
		t.Errorf("seq %d:\n%s", seq, testenv.ReadIfExists(t, d.Events.Path))
	}
}

// asNobody calls f as the user nobody, that is, one that owns no file. It changes
// the user of the whole process, so the test must use testenv.Alone.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	testenv.Must(t, syscall.Setgroups(nil))
	testenv.Must(t, syscall.Setresgid(65534, 65534, 0))
	testenv.Must(t, syscall.Setresuid(65534, 65534, 0))
	defer func() {
		testenv.Must(t, syscall.Setresuid(0, 0, 0))
		testenv.Must(t, syscall.Setresgid(0, 0, 0))
	}()
	f()
}

// A write fails at each descriptor that it needs, because the limit of open files
// is reached. The test does this with a new writer, and with one that has open
// files and finds a torn line.
func TestDir_too_many_open_files(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	for _, torn := range []bool{false, true} {
		dir := testenv.TempDir(t)
		failed := 0
		for allowed := uint64(0); tryWithDescriptors(t, dir, allowed, torn); allowed++ {
			failed++
		}
		if failed < 2 || torn != (testenv.ReadIfExists(t, filepath.Join(dir, EventsName+".torn")) != "") {
			t.Errorf("torn %t: %d attempts failed", torn, failed)
		}
	}
}

// tryWithDescriptors writes an event and a status while only allowed more
// descriptors can be opened. failed reports whether that failed; the write is then
// repeated without the limit.
func tryWithDescriptors(t *testing.T, dir string, allowed uint64, torn bool) (failed bool) {
	t.Helper()
	d := In(dir)
	defer d.Close()
	last := uint64(len(mustLoad(t, d.Events.Path)))
	if torn {
		last++
		appendTo(t, &d.Events, fmt.Sprint("event ", last))
		testenv.Must(t, d.Status.Replace(numbered(int(last))))
		tear(t, d.Events.Path)
	}
	text, status := testenv.ReadIfExists(t, d.Events.Path), testenv.ReadIfExists(t, d.Status.Path)
	b := batchOf(fmt.Sprint("event ", last+1))
	undo := setLimit(t, unix.RLIMIT_NOFILE, freeDescriptor(t)+allowed)
	appendErr := tryAppend(&d.Events, b)
	statusErr := d.Status.Replace(numbered(int(last + 1)))
	undo()
	if appendErr != nil {
		wantCause(t, appendErr, dir, unix.EMFILE)
		if got := testenv.ReadIfExists(t, d.Events.Path); got != text {
			t.Errorf("%d descriptors: the log:\n%s", allowed, got)
		}
		testenv.Must(t, tryAppend(&d.Events, b))
	}
	if statusErr != nil {
		wantCause(t, statusErr, dir, unix.EMFILE)
		if got := testenv.ReadIfExists(t, d.Status.Path); got != status {
			t.Errorf("%d descriptors: %s", allowed, got)
		}
		testenv.Must(t, d.Status.Replace(numbered(int(last+1))))
	}
	if b.Seq(0) != last+1 || testenv.ReadIfExists(t, d.Events.Path) != testLines(1, last+1) {
		t.Errorf("%d descriptors: seq %d:\n%s", allowed, b.Seq(0), testenv.ReadIfExists(t, d.Events.Path))
	}
	testenv.Must(t, readNumbered(d.Status.Path))
	return appendErr != nil || statusErr != nil
}

// tear appends half a line to the log.
func tear(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	testenv.Must(t, err)
	_, err = f.WriteString("torn")
	testenv.Must(t, errors.Join(err, f.Close()))
}

// freeDescriptor returns the lowest unused descriptor. It runs the garbage collector
// first, which closes unreachable files.
func freeDescriptor(t *testing.T) uint64 {
	t.Helper()
	runtime.GC()
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	testenv.Must(t, err)
	testenv.Must(t, unix.Close(fd))
	return uint64(fd)
}

// Each error names the operation and the file.
func TestErrors_operation_and_path(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "file")
	put(t, dir, "")
	d := In(dir)
	for _, err := range []error{
		tryAppend(&d.Events, batchOf("m")),
		d.Status.Replace(&artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("m")}),
		d.Result.CopyToPrevious(), d.Result.MoveToPrevious(),
	} {
		var p *fs.PathError
		if !errors.As(err, &p) || p.Op == "" || p.Path != dir || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%#v", err)
		}
	}
}
