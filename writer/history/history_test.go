package history_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not/yet")
	s, err := history.Read(dir)
	if err != nil || s.Status != nil || s.Result != nil || s.StatusText != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := os.Lstat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("the directory was made: %v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const status = `{"schema_version": 1, "state": "ready", "updated_at": "2026-03-25T20:00:00.123Z", "message": "a\u00e9\n", "boot_id": "b", "seq": 3}`
	for name, text := range map[string]string{writer.StatusName: status, writer.ResultName: `{"schema_version":1,"status":"failed","finished_at":"2026-03-25T20:00:00.123Z","message":"","boot_id":"c","seq":2}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = history.Read(dir); err != nil {
		t.Fatal(err)
	}
	if message, _ := s.Status.Message.Text(); s.Status.State != artifact.Ready || message != "aé\n" || s.Status.BootID != "b" || s.Status.Seq != 3 {
		t.Errorf("%+v", s.Status)
	}
	if s.Result.Outcome != artifact.OutcomeFailed || s.Result.BootID != "c" || s.Result.Seq != 2 {
		t.Errorf("%+v", s.Result)
	}
	if want := `{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00.123Z","message":"aé\n","boot_id":"b","seq":3}`; string(s.StatusText) != want {
		t.Errorf("%s, want %s", s.StatusText, want)
	}
}

func TestRead_too_large(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, writer.StatusName), []byte(`{"state":"ready"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, writer.StatusName), 1<<40); err != nil {
		testenv.Missing(t, "a file system with sparse files; set TMPDIR to one (%v)", err)
	}
	s, err := history.Read(dir)
	if err != nil || s.Status != nil || s.StatusErr == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// An invalid file counts as missing; a file of a newer version is an error.
func TestRead_invalid(t *testing.T) {
	const (
		status = `{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00Z","message":""}`
		result = `{"schema_version":1,"status":"failed","finished_at":"2026-03-25T20:00:00Z","message":""}`
	)
	for _, c := range []struct {
		name, status, result string
		invalidStatus        bool
		invalidResult        bool
		newer                bool
	}{
		{"empty", "", "", true, true, false},
		{"garbage", "garbage\n", "\x00\x00", true, true, false},
		{"unknown_state", strings.Replace(status, "ready", "unknown", 1), result, true, false, false},
		{"damaged_result", status, result[:40], false, true, false},
		{"no_version", strings.Replace(status, `"schema_version":1,`, "", 1), result, true, false, false},
		{"newer_status", strings.Replace(status, `1,"state":"ready"`, `2,"state":"paused"`, 1), result, false, false, true},
		{"newer_result", status, strings.Replace(result, ":1,", ":2,", 1), false, false, true},
		{"version_0", strings.Replace(status, ":1,", ":0,", 1), result, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			testenv.Must(t, os.WriteFile(filepath.Join(dir, writer.StatusName), []byte(c.status), 0o644),
				os.WriteFile(filepath.Join(dir, writer.ResultName), []byte(c.result), 0o644))
			s, err := history.Read(dir)
			if c.newer {
				if !errors.Is(err, artifact.ErrNewer) {
					t.Errorf("%+v, %v", s, err)
				}
				return
			}
			testenv.Must(t, err)
			if (s.Status == nil) != c.invalidStatus || (s.StatusErr != nil) != c.invalidStatus || (s.Result == nil) != c.invalidResult || (s.ResultErr != nil) != c.invalidResult {
				t.Errorf("%+v", s)
			}
		})
	}
}

// LastSeq reads only the end of a log, and no file that blocks.
func TestLastSeq(t *testing.T) {
	dir := t.TempDir()
	want := func(seq uint64) {
		t.Helper()
		if got, err := history.LastSeq(dir); got != seq || err != nil {
			t.Errorf("LastSeq returned %d, %v; want %d", got, err, seq)
		}
	}
	path := filepath.Join(dir, writer.EventsName)
	want(0)
	for text, seq := range map[string]uint64{"7\n": 7, "7\n\x00": 7, "+7\n": 0, "x\n": 0} { // as writers read it
		testenv.Must(t, os.WriteFile(filepath.Join(dir, writer.SeqName), []byte(text), 0o644))
		want(seq)
	}
	testenv.Must(t, os.WriteFile(path+".1", []byte(event+"\n"), 0o644))
	want(2)
	testenv.Must(t, os.WriteFile(path, []byte("x\n"), 0o644))
	if err := os.Truncate(path, 1<<42); err != nil {
		testenv.Missing(t, "a file system with sparse files; set TMPDIR to one (%v)", err)
	}
	want(2)
	testenv.Must(t, os.Remove(path), unix.Mkfifo(path, 0o644))
	if seq, err := history.LastSeq(dir); err == nil {
		t.Errorf("LastSeq returned %d for a FIFO", seq)
	}
}
