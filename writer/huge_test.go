package writer

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A huge log without newlines is renamed. It is not read or copied, which would
// block all writers or fill the disk.
func TestEventLog_huge(t *testing.T) {
	dir := testenv.TempDir(t)
	l := logIn(dir)
	put(t, l.Path, testLines(1, 3))
	put(t, l.Path+".seq", "3\n")
	const huge = 1 << 40 // bytes of a hole, which would take minutes to read
	testenv.Must(t, os.Truncate(l.Path, huge))
	if seq := appendTo(t, l, "m"); seq != 4 {
		t.Errorf("seq %d, expected 4, from the seq file", seq)
	}
	var torn syscall.Stat_t
	testenv.Must(t, syscall.Stat(l.Path+".torn", &torn))
	if torn.Size != huge || torn.Blocks*512 > 1<<20 {
		t.Errorf("the .torn file has %d bytes in %d blocks", torn.Size, torn.Blocks)
	}
	if got := testenv.ReadIfExists(t, l.Path); strings.Count(got, "\n") != 1 {
		t.Errorf("the new log is %q", got)
	}
	if seq := appendTo(t, l, "m"); seq != 5 {
		t.Errorf("seq %d, expected 5", seq)
	}
}

// The search for the last seq stops after maxUnnumbered lines, because each line
// takes a read.
func TestEventLog_many_blank_lines(t *testing.T) {
	for _, c := range []struct {
		blank int
		want  uint64
	}{
		{maxUnnumbered - 1, 4}, // from the log
		{maxUnnumbered, 10},    // from the seq file
		{4 << 20, 10},          // also; a search through all lines would take minutes
	} {
		l := logIn(testenv.TempDir(t))
		put(t, l.Path, testLines(1, 3)+strings.Repeat("\n", c.blank))
		put(t, l.Path+".seq", "9\n")
		if seq := appendTo(t, l, "m"); seq != c.want {
			t.Errorf("%d blank lines: seq %d, expected %d", c.blank, seq, c.want)
		}
	}
}

// A huge rejected.jsonl without newlines is renamed too.
func TestRejectLog_huge(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), RejectedName)
	put(t, path, "")
	testenv.Must(t, os.Truncate(path, 1<<40))
	l := RejectLog{Path: path, MaxBytes: 1 << 20}
	testenv.Must(t, l.Append([]byte("{}\n")))
	if got := testenv.ReadIfExists(t, path); got != "{}\n" {
		t.Errorf("%q", got)
	}
}
