package verify

import (
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// directory says who but root, and the user whose artifacts these are, may delete or
// forge what stands there.
func (c *check) directory() error {
	info, err := os.Stat(c.dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case info.Mode().Perm()&0o002 != 0:
		c.find("", 0, false, "everybody may write to the directory, and so delete or forge what stands there")
	case info.Mode().Perm()&0o020 != 0:
		c.find("", 0, false, "a group may write to the directory, and so delete or forge what stands there")
	case owner != 0 && c.files[writer.EventsName] != nil && owner != c.files[writer.EventsName].owner():
		c.find("", 0, false, "user %d owns the directory, and so may delete or forge what user %d wrote there",
			owner, c.files[writer.EventsName].owner())
	}
	return nil
}

func (f *found) owner() uint32 { return f.info.Sys().(*syscall.Stat_t).Uid }

// unlockedFor is how long a temporary of a living writer may be without its lock: it
// takes it at once, but may be held up in between.
const unlockedFor = 100 * time.Millisecond

// temporaries finds what a crash has left of them. One that a writer has just made is
// not locked yet: so where there are any they are looked at again, when no commit is
// under way.
func (c *check) temporaries() error {
	dir := writer.In(c.dir)
	defer dir.Close()
	stale, err := dir.StaleTemporaries()
	if err != nil || len(stale) == 0 {
		return err
	}
	unlock, _ := c.lock(c.dir)
	defer unlock()
	time.Sleep(unlockedFor)
	still, err := dir.StaleTemporaries()
	for _, name := range still {
		if slices.Contains(stale, name) {
			c.find(name, 0, true, "a temporary that a crash left")
		}
	}
	return err
}

// modes checks the modes, links and owners of the files.
func (c *check) modes() error {
	var first *found
	for _, name := range names {
		f := c.files[name]
		if f == nil {
			continue
		}
		if want := modeOf(name); !f.moded(want) {
			c.find(name, 0, true, "mode is %04o; expected %04o", f.info.Mode().Perm(), want)
		}
		if f.info.Sys().(*syscall.Stat_t).Nlink > 1 {
			c.find(name, 0, false, "the file has a second link")
		}
		if first == nil {
			first = f
		} else if f.owner() != first.owner() {
			c.find(name, 0, false, "user %d owns the file; %s is user %d's", f.owner(), first.info.Name(), first.owner())
		}
	}
	return nil
}

// moded reports whether a file has the mode that it should. The Python command
// leaves it to the umask; only that others may write is wrong then.
func (f *found) moded(want fs.FileMode) bool {
	mode := f.info.Mode().Perm()
	return mode == want || !f.own && mode&0o022 == 0
}

// modeOf returns the mode of an artifact. The seq file is its owner's alone, for it
// bears the lock.
func modeOf(name string) fs.FileMode {
	if name == writer.SeqName {
		return 0o600
	}
	return 0o644
}
