package verify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

func TestCheck_lock_not_acquired(t *testing.T) {
	dir := t.TempDir()
	const event = `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":"m","seq":1}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, writer.EventsName), []byte(event), 0o644); err != nil {
		t.Fatal(err)
	}
	held := func(string) (func(), error) { return func() {}, errors.New("lock: still held") }
	c, err := check(dir, held)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range c.Findings {
		found = found || (f.File == writer.SeqName && !f.Repairable && strings.HasPrefix(f.What, "lock: still held; "))
	}
	if !found || c.Events != 1 {
		t.Errorf("%d events, found %+v; expected 1 event, and a finding about the lock", c.Events, c.Findings)
	}
}
