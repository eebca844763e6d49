package ingest

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"golang.org/x/sys/unix"
)

// A reporter warns about write errors, without repeating itself.
//
// last is the last error that it reported and that is still retried; lastIsLock is set
// if that was a held lock. While silent, it reports no retried errors, because
// Stream.Unusable has reported the cause. reported contains the warnings of once.
type reporter struct {
	warn       func(format string, args ...any)
	last       string
	lastIsLock bool
	silent     bool
	reported   map[string]bool
}

// retriedError warns about an error after which the commit is tried again, unless it was
// the last one.
func (p *reporter) retriedError(err error) {
	text := err.Error()
	if todo := Remedy(err); todo != "" {
		text += "; " + todo
	}
	var held *writer.LockError
	isLock := errors.As(err, &held)
	again := text == p.last || (isLock && p.lastIsLock) // of a lock only the times differ
	if again || p.silent {
		return
	}
	p.last, p.lastIsLock = text, isLock
	p.warn("%s; trying again", text)
}

// succeeded notes that a commit has succeeded: the next error is reported again.
func (p *reporter) succeeded() { p.last, p.lastIsLock, p.silent = "", false, false }

// once prints a warning, unless it has printed the same one before.
func (p *reporter) once(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.reported[text] {
		return
	}
	if p.reported == nil {
		p.reported = map[string]bool{}
	}
	p.reported[text] = true
	p.warn("%s", text)
}

// reportUnmovable warns once about each file that could not be replaced or renamed,
// although the rest of the commit was written.
func (c *committer) reportUnmovable() {
	if c.mounted != nil {
		c.report.once("%v; %s; everything else is written", c.mounted, Remedy(c.mounted))
		c.mounted = nil
	}
	err := c.store.rotateError()
	if err != nil {
		c.report.once("%v; the log is not rotated and continues to grow", err)
	}
}

// Remedy returns what an operator can do about a write error of package writer; "" if
// the text of the error contains that, or if it is not known.
func Remedy(err error) string {
	for _, r := range [...]struct {
		cause error
		text  string
	}{
		{unix.ENOSPC, "free disk space or inodes"},
		{unix.EDQUOT, "raise the disk quota or free disk space"},
		{unix.EFBIG, "raise the limit of file sizes (ulimit -f)"},
		{unix.EROFS, "mount the file system read-write"},
		{unix.EIO, "check the disk"},
		{unix.EMFILE, "raise the limit of open files (ulimit -n)"},
		{unix.ENFILE, "raise fs.file-max"},
		{unix.EPERM, "check its owner, mode and attributes (lsattr)"},
		{fs.ErrPermission, "check its owner and mode, or use another directory"},
		{unix.ENOENT, "the directory was removed; start again in one that exists"},
		{unix.ENOTDIR, "remove the file that is in the way"},
		{unix.EBUSY, "it is a mount point; mount the state directory instead of this file"},
	} {
		if errors.Is(err, r.cause) {
			return r.text
		}
	}
	return ""
}
