package writer

import (
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// Read returns the status and the result that Replace wrote.
func TestRead(t *testing.T) {
	d := In(testenv.TempDir(t))
	const seq = 1<<63 + 1
	testenv.Must(t, d.Status.Replace(&artifact.Status{State: artifact.Failed, Time: testTime, Message: quoted("m"), BootID: "id\n", Seq: seq}))
	testenv.Must(t, d.Result.Replace(&artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("m"), BootID: "id\n", Seq: seq}))
	s, err := d.Status.Read()
	testenv.Must(t, err)
	r, err := d.Result.Read()
	testenv.Must(t, err)
	if s.State != artifact.Failed || s.BootID != "id\n" || s.Seq != seq {
		t.Errorf("%+v", s)
	}
	if r.Outcome != artifact.OutcomeFailed || r.BootID != "id\n" || r.Seq != seq {
		t.Errorf("%+v", r)
	}
}

// Read returns an error for a file that is not an artifact, and takes little memory
// and time.
func TestRead_invalid(t *testing.T) {
	for name, text := range map[string]string{
		"empty":      "",
		"garbage":    "garbage",
		"cut":        `{"state":"ready","status":"failed"`,
		"array":      `[]`,
		"unknown":    `{"state":"running","status":"done"}`,
		"number":     `{"state":1,"status":1}`,
		"nested":     strings.Repeat("[", 1e6),
		"nested map": `{"state":"ready","status":"failed","details":` + strings.Repeat(`{"a":`, 1e5),
		"NULs":       string(make([]byte, 4096)),
		"huge":       `{"state":"ready","status":"failed"` + strings.Repeat(" ", artifact.MaxSize) + "}",
	} {
		d := In(testenv.TempDir(t))
		put(t, d.Status.Path, text)
		put(t, d.Result.Path, text)
		if s, err := d.Status.Read(); err == nil || !strings.Contains(err.Error(), d.Status.Path) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if r, err := d.Result.Read(); err == nil || !strings.Contains(err.Error(), d.Result.Path) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
