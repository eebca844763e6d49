//go:build linux && amd64

package crashtest

import (
	"path/filepath"
	"slices"
)

// A disk is what a power loss would leave, by the failure model of package
// writer: data survives once it was synced, a name once its directory was. It
// is told of each call, and finds every acknowledgement, and every step of a
// commit, that comes before what it stands on is durable.
type disk struct {
	ledger *ledger
	files  map[uint64]*diskFile // by inode
	names  map[string]bool      // paths that are not durable
	badDir map[string]int       // descriptors on which a sync of the directory failed
}

// A diskFile is a file that was written.
type diskFile struct {
	path  string
	dirty bool
	// After a failed sync the kernel holds the pages for clean: only writing
	// them anew, and a sync by another descriptor, makes them durable.
	lost    bool
	badFD   int
	written bool // since it was lost
}

// checkDurable holds all calls of a run against the model.
func (g *ledger) checkDurable(calls []*call, acknowledged bool) {
	d := disk{g, map[uint64]*diskFile{}, map[string]bool{}, map[string]int{}}
	for _, c := range calls {
		d.take(c)
	}
	if acknowledged {
		d.demand("the exit")
	}
}

// isArtifact tells what must be durable from temporaries, which need not.
func isArtifact(path string) bool { return !temporary.MatchString(path) }

func (d *disk) take(c *call) {
	switch {
	case c.again:
	case c.name == "ack":
		d.demand("an acknowledgement")
	case c.name == "fsync" || c.name == "fdatasync":
		d.sync(c)
	case c.name == "close":
		d.close(c)
	default:
		if c.took {
			d.change(c)
		}
	}
}

// change takes a call that changed what is on disk.
func (d *disk) change(c *call) {
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

func (d *disk) write(c *call) {
	f := d.files[c.ino]
	if f == nil {
		f = &diskFile{path: c.path, badFD: -1}
		d.files[c.ino] = f
	}
	f.dirty, f.written = true, true
}

func (d *disk) rename(c *call) {
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

func (d *disk) sync(c *call) {
	if f := d.files[c.ino]; f != nil {
		switch {
		case c.failed:
			f.lost, f.badFD, f.written = true, c.fd, false
		case !f.lost || f.written && f.badFD != c.fd:
			f.dirty, f.lost = false, false
		}
		return
	}
	if fd, bad := d.badDir[c.path]; bad && fd == c.fd {
		return
	}
	if c.failed {
		d.badDir[c.path] = c.fd
		return
	}
	for name := range d.names {
		if filepath.Dir(name) == c.path {
			delete(d.names, name)
		}
	}
}

// close ends what is known of a descriptor, for its number is used again.
func (d *disk) close(c *call) {
	if f := d.files[c.ino]; f != nil && f.badFD == c.fd {
		f.badFD = -1
	}
	if fd, bad := d.badDir[c.path]; bad && fd == c.fd {
		delete(d.badDir, c.path)
	}
}

// step demands what must be durable before a step of the commit.
func (d *disk) step(c *call) {
	name := filepath.Base(c.path)
	if c.name == "renameat" {
		name = filepath.Base(c.other)
	}
	switch {
	case name == "events.jsonl" && c.name == "write":
		d.demand(c.String(), "events.jsonl.seq")
	case name == "events.jsonl" && c.name == "ftruncate":
		d.demand(c.String(), "events.jsonl.torn")
	case name == "result.json":
		d.demand(c.String(), "events.jsonl", "events.jsonl.seq", "rejected.jsonl", "result.json.prev")
	case name == "status.json":
		d.demand(c.String(), "events.jsonl", "events.jsonl.seq", "rejected.jsonl", "result.json")
	}
}

// demand finds what is not durable: of the names given, or of all artifacts.
func (d *disk) demand(before string, names ...string) {
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
