package ingest

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rehearse takes the place of a commit in a dry run: it tells what each step would
// write, in the order of the steps.
func (r *run) rehearse() {
	p := &r.pending
	if p.events.Len() > 0 {
		p.events.Number(r.lastSeq + 1)
		r.numbered()
		r.wouldWrite(r.Dir.Events.Path, p.events.Text())
	}
	if len(p.rejects) > 0 {
		r.wouldWrite(r.Dir.Rejects.Path, p.rejects)
	}
	if p.startsRun && !r.nothingStands() {
		if _, err := r.Dir.Result.Read(); err == nil {
			fmt.Fprintf(r.DryRun, "==> %s.prev: what %[1]s says now\n", filepath.Base(r.Dir.Result.Path))
		}
	}
	if p.hasResult {
		r.wouldWrite(r.Dir.Result.Path, p.result.Append(nil))
	}
	if p.hasStatus {
		r.wouldWrite(r.Dir.Status.Path, p.status.Append(nil))
	}
	p.events.Reset() // last: the values of the status may stand in them
	p.rejects, p.refused = p.rejects[:0], 0
	p.startsRun, p.hasResult, p.hasStatus, p.ready = false, false, false, false
}

func (r *run) wouldWrite(path string, text []byte) {
	fmt.Fprintf(r.DryRun, "==> %s\n%s", filepath.Base(path), text)
}

// nothingStands reports whether a dry run has no state directory to look into: what
// reads an artifact makes the directory.
func (r *run) nothingStands() bool {
	return r.DryRun != nil && unix.Access(filepath.Dir(r.Dir.Status.Path), unix.F_OK) != nil
}

// standingSeq returns the seq that a commit would go on from.
func (r *run) standingSeq() uint64 {
	if r.nothingStands() {
		return 0
	}
	seq, err := r.Dir.Events.LastSeq()
	if err != nil {
		r.say("%v; taken for an empty log", err)
	}
	return seq
}
