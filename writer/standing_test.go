package writer

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLookReadsAndMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not/yet")
	s, err := Look(dir)
	if err != nil || s.Status != nil || s.Result != nil || s.Text != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := os.Lstat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("the directory was made: %v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const status = `{"schema_version": 1, "state": "ready", "message": "a\u00e9\n", "boot_id": "b", "seq": 3}`
	for name, text := range map[string]string{StatusName: status, ResultName: `{"status":"failed","boot_id":"c","seq":2}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = Look(dir); err != nil {
		t.Fatal(err)
	}
	if message, _ := s.Status.Message.Text(); s.Status.State != Ready || message != "aé\n" || s.Status.BootID != "b" || s.Status.Seq != 3 {
		t.Errorf("%+v", s.Status)
	}
	if s.Result.Outcome != OutcomeFailed || s.Result.BootID != "c" || s.Result.Seq != 2 {
		t.Errorf("%+v", s.Result)
	}
	if want := `{"schema_version":1,"state":"ready","message":"aé\n","boot_id":"b","seq":3}`; string(s.Text) != want {
		t.Errorf("%s, want %s", s.Text, want)
	}
}

func TestLookRefusesWhatIsTooLarge(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, StatusName), []byte(`{"state":"ready"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, StatusName), 1<<40); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	if s, err := Look(dir); err == nil {
		t.Errorf("%+v", s)
	}
}
