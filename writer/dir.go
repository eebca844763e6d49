package writer

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Dir is the artifacts of one state directory.
type Dir struct {
	Events  EventLog
	Rejects RejectLog
	Result  ResultFile
	Status  StatusFile
	Boots   BootList // of a log that is a copy
}

// The names of the artifacts in a state directory.
const (
	StatusName   = "status.json"
	EventsName   = "events.jsonl"
	ResultName   = "result.json"
	RejectedName = "rejected.jsonl"
	BootsName    = EventsName + ".boots"
)

// In returns the artifacts of the state directory at path. It touches nothing.
func In(path string) *Dir {
	d := new(Dir)
	d.Events.Path = filepath.Join(path, EventsName)
	d.Rejects.Path = filepath.Join(path, RejectedName)
	d.Result.Path = filepath.Join(path, ResultName)
	d.Status.Path = filepath.Join(path, StatusName)
	d.Boots.Path = filepath.Join(path, BootsName)
	shared := &folder{}
	for _, p := range d.places() {
		p.folder = shared
	}
	return d
}

func (d *Dir) places() []*place {
	return []*place{&d.Events.lines.place, &d.Events.seq.place, &d.Rejects.lines.place,
		&d.Result.whole.place, &d.Result.prev.place, &d.Status.whole.place, &d.Boots.lines.place}
}

// Exposed says who besides this process's user and root may write to the state
// directory, "" for nobody: such a one can delete or forge whatever stands there.
// It must have been opened by a read or a write.
func (d *Dir) Exposed() string {
	p := &d.Status.whole.place
	var st unix.Stat_t
	if p.folder == nil || p.fd == 0 || unix.Fstat(p.fd, &st) != nil {
		return ""
	}
	switch {
	case st.Mode&0o002 != 0:
		return "everybody"
	case st.Mode&0o020 != 0:
		return fmt.Sprintf("group %d", st.Gid)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Sprintf("user %d", st.Uid)
	}
	return ""
}

// Close closes all that the artifacts hold open, a lock that is held or waited
// for with it. It is not needed before the process ends; a use after it opens
// anew.
func (d *Dir) Close() {
	d.Events.lines.forget()
	d.Events.seq.drop()
	d.Rejects.lines.forget()
	d.Boots.lines.forget()
	for _, p := range d.places() {
		p.close()
	}
}
