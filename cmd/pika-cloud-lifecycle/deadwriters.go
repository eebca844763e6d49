package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// deadWriters returns the writers of a directory that have died in this boot; none if dir
// is empty.
func (a *app) deadWriters(dir string) []writerlock.Writer {
	info, err := os.Lstat(filepath.Join(dir, writer.WriterLockName))
	if dir == "" || err != nil || info.Size() == 0 {
		return nil // as after every clean end, so no boot ID is needed
	}
	writers, _ := writerlock.Read(dir, a.bootID()) // after an error, nothing is known about them
	return slices.DeleteFunc(writers, func(w writerlock.Writer) bool { return w.State != writerlock.Dead })
}

// deadText returns a dead writer as text for a person.
func deadText(w writerlock.Writer) string {
	return fmt.Sprintf("%s with PID %d has died, or could not write its result", w.Kind, w.PID)
}

// writerObjects returns writers as JSON objects.
func writerObjects(writers []writerlock.Writer) []strictjson.Value {
	var objects []strictjson.Value
	for _, w := range writers {
		var o strictjson.Object
		o.Text("kind", string(w.Kind))
		o.Int("pid", int64(w.PID))
		objects = append(objects, o.Value())
	}
	return objects
}
