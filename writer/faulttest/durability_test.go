//go:build linux && amd64

package faulttest

import (
	"path/filepath"
	"slices"
)

// A durability tracks which data and names would survive a power loss, by the failure
// model of package writer: data survives once it is synced, and a name once its
// directory is synced. It follows all calls of a run. It reports each acknowledgement
// and each step of a commit that happens before the earlier steps are durable.
type durability struct {
	ledger      *ledger
	files       map[uint64]*writtenFile // by inode
	names       map[string]bool         // the paths that are not durable
	failedSyncs map[string]int          // for a directory, the descriptor on which a sync failed
}

// A writtenFile is a file that was written.
//
// After a failed sync the kernel considers the pages clean. They are durable only
// after they have been written again and synced on another descriptor.
type writtenFile struct {
	path     string
	dirty    bool
	lost     bool // a sync failed
	failedFD int  // the descriptor of that sync; -1 if it has been closed
	written  bool // the file was written again after that
}

// checkDurable checks all calls of a run.
func (g *ledger) checkDurable(calls []*call, acknowledged bool) {
	d := durability{g, map[uint64]*writtenFile{}, map[string]bool{}, map[string]int{}}
	for _, c := range calls {
		d.apply(c)
	}
	if acknowledged {
		d.requireDurable("the exit")
	}
}

// isArtifact reports whether path must be durable, that is, whether it is not a
// temporary file. The writer lock has no meaning after a power loss.
func isArtifact(path string) bool {
	return !temporary.MatchString(path) && filepath.Base(path) != "writer.lock"
}

// apply updates the model with a call.
func (d *durability) apply(c *call) {
	switch {
	case c.again:
	case c.name == "ack":
		d.requireDurable("an acknowledgement")
	case c.name == "fsync" || c.name == "fdatasync":
		d.sync(c)
	case c.name == "close":
		d.close(c)
	default:
		if c.done {
			d.change(c)
		}
	}
}

// change updates the model with a call that changed the directory or a file.
func (d *durability) change(c *call) {
	switch c.name {
	case "write", "pwrite64", "ftruncate":
		d.step(c)
		d.write(c)
	case "openat", "mkdirat":
		if c.creates && isArtifact(c.path) {
			d.names[c.path] = true
		}
	case "renameat":
		d.step(c)
		d.rename(c)
	case "unlinkat":
		if isArtifact(c.path) {
			d.names[c.path] = true
		}
	}
}

func (d *durability) write(c *call) {
	f := d.files[c.ino]
	if f == nil {
		f = &writtenFile{path: c.path, failedFD: -1}
		d.files[c.ino] = f
	}
	f.dirty, f.written = true, true
}

func (d *durability) rename(c *call) {
	if f := d.files[c.ino]; f != nil {
		if f.dirty {
			d.ledger.find(notDurable, "%v: its data was not synced", c)
		}
		f.path = c.other
	}
	d.names[c.other] = true
	if isArtifact(c.path) {
		d.names[c.path] = true
	}
}

func (d *durability) sync(c *call) {
	if f := d.files[c.ino]; f != nil {
		switch {
		case c.failed:
			f.lost, f.failedFD, f.written = true, c.fd, false
		case !f.lost || f.written && f.failedFD != c.fd:
			f.dirty, f.lost = false, false
		}
		return
	}
	if fd, bad := d.failedSyncs[c.path]; bad && fd == c.fd {
		return
	}
	if c.failed {
		d.failedSyncs[c.path] = c.fd
		return
	}
	for name := range d.names {
		if filepath.Dir(name) == c.path {
			delete(d.names, name)
		}
	}
}

// close forgets a descriptor, because the kernel will use its number again.
func (d *durability) close(c *call) {
	if f := d.files[c.ino]; f != nil && f.failedFD == c.fd {
		f.failedFD = -1
	}
	if fd, bad := d.failedSyncs[c.path]; bad && fd == c.fd {
		delete(d.failedSyncs, c.path)
	}
}

// step checks that all earlier steps of the commit are durable before the next step.
func (d *durability) step(c *call) {
	name := filepath.Base(c.path)
	if c.name == "renameat" {
		name = filepath.Base(c.other)
	}
	switch {
	case name == "events.jsonl" && c.name == "write":
		d.requireDurable(c.String(), "events.jsonl.seq")
	case name == "events.jsonl" && c.name == "ftruncate":
		d.requireDurable(c.String(), "events.jsonl.torn")
	case name == "events.jsonl" && c.name == "renameat": // a repair without an exchange
		d.requireDurable(c.String(), "events.jsonl.seq", "events.jsonl.damaged1", "events.jsonl.damaged2")
	case d.ledger.mayDegrade: // a degraded stream writes each file separately
	case name == "result.json":
		d.requireDurable(c.String(), "events.jsonl", "events.jsonl.seq", "rejected.jsonl", "result.json.prev")
	case name == "status.json":
		d.requireDurable(c.String(), "events.jsonl", "events.jsonl.seq", "rejected.jsonl", "result.json")
	}
}

// requireDurable reports the files called names that are not durable; all artifacts if no
// names are given.
func (d *durability) requireDurable(before string, names ...string) {
	wanted := func(path string) bool {
		return isArtifact(path) && (names == nil || slices.Contains(names, filepath.Base(path)))
	}
	for _, f := range d.files {
		if f.dirty && wanted(f.path) {
			d.ledger.find(notDurable, "%s came before %s was synced", before, filepath.Base(f.path))
		}
	}
	for path := range d.names {
		if wanted(path) {
			d.ledger.find(notDurable, "%s came before the directory with %s was synced", before, filepath.Base(path))
		}
	}
}
