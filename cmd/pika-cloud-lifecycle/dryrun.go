package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// A firstError passes on what is written until that fails.
type firstError struct {
	io.Writer
	err error
}

func (w *firstError) Write(p []byte) (n int, err error) {
	if w.err == nil {
		n, w.err = w.Writer.Write(p)
	}
	return n, w.err
}

// rehearse runs a stream that only prints what it would write.
func (w *world) rehearse(s *ingest.Stream) error {
	out := &firstError{Writer: w.stdout}
	s.DryRun = out
	err := w.conclude(s.Run())
	return errors.Join(out.err, err)
}

// showRefused shows a refused line, and below it a caret at what was not expected
// there.
func (w *world) showRefused(line []byte, at int) {
	at = min(at, len(line))
	const indent = 4
	columns, _ := columnsOf(w.stderr)
	if columns < 40 {
		columns = 80
	}
	before := timeline.Printable(string(line[:at]))
	text := before + timeline.Printable(string(line[at:]))
	text, column := timeline.Window(text, len(before), columns-indent-1)
	space := strings.Repeat(" ", indent)
	fmt.Fprintf(w.stderr, "%s%s\n%s%s^\n", space, text, space, strings.Repeat(" ", column))
}

// isTerminal reports whether a person may be looking on.
func isTerminal(f io.Writer) bool {
	_, terminal := columnsOf(f)
	return terminal
}
