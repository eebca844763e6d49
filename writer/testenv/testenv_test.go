package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A recorder is a testing.TB that records how the test ends.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Skipf(format string, args ...any)  { r.end("skip: "+format, args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.end("fail: "+format, args...) }

// end records only the first end, because Skipf and Fatalf of a real test do not return.
func (r *recorder) end(format string, args ...any) {
	if r.ended == "" {
		r.ended = fmt.Sprintf(format, args...)
	}
}

func TestMissing(t *testing.T) {
	for value, want := range map[string]string{
		"":  "skip: needs no-such-tool; install it",
		"0": "skip: needs no-such-tool; install it",
		"1": "fail: needs no-such-tool; install it (PIKA_TEST_NO_SKIP is set)",
	} {
		t.Run("PIKA_TEST_NO_SKIP="+value, func(t *testing.T) {
			t.Setenv(noSkip, value)
			r := &recorder{TB: t}
			Tool(r, "no-such-tool")
			if r.ended != want {
				t.Errorf("%q, want %q", r.ended, want)
			}
		})
	}
}

func TestTempDir(t *testing.T) {
	base := filepath.Join(t.TempDir(), "a b")
	Must(t, os.Mkdir(base, 0o755))
	t.Setenv("TMPDIR", base)
	defer unix.Umask(unix.Umask(0o077))
	var dir string
	t.Run("in TMPDIR and open to all", func(t *testing.T) {
		dir = TempDir(t)
		info, err := os.Stat(dir)
		Must(t, err)
		if filepath.Dir(dir) != base || info.Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %v", dir, info.Mode())
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s was not removed: %v", dir, err)
	}
}

func TestMakeDir(t *testing.T) {
	last := t.TempDir()
	for name, first := range map[string]string{"missing": "/no/such/directory", "relative": ".", "not in memory": "/proc", "unset": ""} {
		t.Run(name, func(t *testing.T) {
			dir, err := makeDir([]string{first, last})
			if err != nil || filepath.Dir(dir) != last {
				t.Errorf("%s, %v; want it in %s", dir, err, last)
			}
		})
	}
}

func TestPlainDir(t *testing.T) {
	for name, base := range map[string]string{"long": strings.Repeat("x", 100), "space": "a b"} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), base)
			Must(t, os.Mkdir(base, 0o755))
			t.Setenv("TMPDIR", base)
			if dir := PlainDir(t); len(dir) > maxPlainDir || strings.Contains(dir, " ") {
				t.Errorf("%s", dir)
			}
			if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
				t.Errorf("%v were not removed (%v)", left, err)
			}
		})
	}
}

func TestAlone(t *testing.T) {
	var ran bool
	if Alone(t) {
		ran = true
		Must(t, os.Chdir("/"))
	}
	if dir, err := os.Getwd(); err != nil || (dir == "/") != ran {
		t.Errorf("%s, %v", dir, err)
	}
}

func TestAloneWithMounts(t *testing.T) {
	if !AloneWithMounts(t) {
		return
	}
	dir := t.TempDir()
	Must(t, unix.Mount("t", dir, "tmpfs", 0, "size=16k"), unix.Unmount(dir, 0))
}
