package main

import (
	"io"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// A stickyWriter writes nothing more after the first error, which it keeps.
type stickyWriter struct {
	to  io.Writer
	err error
}

func (w *stickyWriter) Write(p []byte) (n int, err error) {
	if w.err == nil {
		n, w.err = w.to.Write(p)
	}
	return n, w.err
}

// dryRun runs a stream that only prints what it would write.
func (a *app) dryRun(s *ingest.Stream) error {
	out := &stickyWriter{to: a.stdout}
	s.DryRun, s.ShowRejected = out, a.showCaret
	err := a.runStream(s)
	if out.err != nil {
		return out.err
	}
	return err
}
