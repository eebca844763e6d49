package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// inotify does not report every change on a shared file system, so wait reads the files
// once more when its time is over.
func TestWait_reads_at_deadline(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	elsewhere, here := t.TempDir(), t.TempDir()
	testenv.Bindfs(t, elsewhere, here)
	dir := filepath.Join(here, "run")
	testenv.Must(t, os.Mkdir(dir, 0o755))
	go func() {
		time.Sleep(100 * time.Millisecond)
		s := artifact.Status{State: artifact.Ready, Time: time.Now(), Message: strictjson.AppendText(nil, "m")}
		if err := writer.In(filepath.Join(elsewhere, "run")).Status.Replace(&s); err != nil {
			t.Error(err)
		}
	}()
	w := waiter{dir: dir, states: []artifact.State{artifact.Ready}, limit: 500 * time.Millisecond}
	start := time.Now()
	s, err := w.wait()
	if err != nil || s.Status == nil || time.Since(start) < w.limit {
		t.Errorf("%v, %v after %v", s, err, time.Since(start))
	}
}
