package verify

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// checkDirectory checks that no other user than root and the owner of the artifacts may
// write to the directory.
func (c *checker) checkDirectory() error {
	var st unix.Stat_t
	if err := dirfs.Retry(func() error { return unix.Stat(c.dir, &st) }); err != nil {
		return &fs.PathError{Op: "stat", Path: c.dir, Err: err}
	}
	others := writer.OtherWriters(&st, c.owner(st.Uid))
	if others != "" {
		c.add("", 0, false, "%s may write to the directory, and can delete or forge its files", others)
	}
	return nil
}

// owner returns the owner of the artifacts, which is that of the log or, without a
// log, of the first file. Without any file it returns otherwise.
func (c *checker) owner(otherwise uint32) int {
	names := append([]string{writer.EventsName}, fileNames...)
	for _, name := range names {
		if f := c.files[name]; f != nil {
			return int(f.owner())
		}
	}
	return int(otherwise)
}

func (f *file) owner() uint32 { return f.info.Sys().(*syscall.Stat_t).Uid }

// lockDelay is how long a temporary file of a running writer may be without its
// lock. The writer acquires the lock immediately after it has created the file, but on a
// busy machine it may have to wait for the processor in between.
const lockDelay = 100 * time.Millisecond

// checkTemporaries finds the temporary files that a crash left. A running writer may not
// have locked its new file yet, so checkTemporaries looks again after lockDelay, while it
// holds the lock of the directory.
func (c *checker) checkTemporaries() error {
	dir := writer.In(c.dir)
	defer dir.Close()
	first, err := dir.StaleTemporaries()
	if errors.Is(err, fs.ErrPermission) {
		c.uncheckedFile("", "temporary files were not looked for")
		return nil
	}
	if err != nil || len(first) == 0 {
		return err
	}
	unlock, _ := c.lock(c.dir)
	defer unlock()
	time.Sleep(lockDelay)
	second, err := dir.StaleTemporaries()
	for _, name := range second {
		if slices.Contains(first, name) {
			c.add(name, 0, true, "a crash left this temporary file")
		}
	}
	return err
}
