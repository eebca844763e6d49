package ingest

import "fmt"

// A refusal says why a line is not taken.
type refusal struct {
	at  int    // byte offset in the line
	why string // what was expected, and what to do
}

func (r *refusal) Error() string {
	return fmt.Sprintf("column %d: %s", r.at+1, r.why)
}

func refuse(at int, format string, args ...any) *refusal {
	return &refusal{at, fmt.Sprintf(format, args...)}
}

// refuseFor refuses the whole of a line, for what a source says of it.
func refuseFor(err error) *refusal { return &refusal{why: err.Error()} }
