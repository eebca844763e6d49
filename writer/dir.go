package writer

import "path/filepath"

// A Dir is the artifacts of one state directory.
type Dir struct {
	Events  EventLog
	Rejects RejectLog
	Result  ResultFile
	Status  StatusFile
}

// The names of the artifacts in a state directory.
const (
	StatusName   = "status.json"
	EventsName   = "events.jsonl"
	ResultName   = "result.json"
	RejectedName = "rejected.jsonl"
)

// In returns the artifacts of the state directory at path. It touches nothing.
func In(path string) *Dir {
	d := new(Dir)
	d.Events.Path = filepath.Join(path, EventsName)
	d.Rejects.Path = filepath.Join(path, RejectedName)
	d.Result.Path = filepath.Join(path, ResultName)
	d.Status.Path = filepath.Join(path, StatusName)
	return d
}

// Close closes all that the artifacts hold open, a lock that is held or waited
// for with it. It is not needed before the process ends; a use after it opens
// anew.
func (d *Dir) Close() {
	d.Events.lines.forget()
	d.Events.seq.drop()
	d.Rejects.lines.forget()
	for _, p := range []*place{&d.Events.lines.place, &d.Events.seq.place, &d.Rejects.lines.place,
		&d.Result.whole.place, &d.Result.prev.place, &d.Status.whole.place} {
		p.close()
	}
}
