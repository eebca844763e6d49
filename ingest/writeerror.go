package ingest

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"golang.org/x/sys/unix"
)

// A reporter warns about write errors. It does not repeat a warning for each retry.
//
// last is the error that it reported last, while that is retried; lastIsLock is set if
// another process holds the lock. While silent is set, because Stream.Unusable was called
// with the cause, it reports no retried errors. reported contains the warnings of once.
type reporter struct {
	warn       func(format string, args ...any)
	last       string
	lastIsLock bool
	silent     bool
	reported   map[string]bool
}

// retriedError warns about an error after which the commit is tried again, unless it
// repeats the error that was reported last.
func (p *reporter) retriedError(err error) {
	text := err.Error()
	if todo := Remedy(err); todo != "" {
		text += "; " + todo
	}
	var held *writer.LockError
	isLock := errors.As(err, &held)
	again := text == p.last || (isLock && p.lastIsLock) // the texts for a held lock differ in the time
	if again || p.silent {
		return
	}
	p.last, p.lastIsLock = text, isLock
	p.warn("%s; trying again", text)
}

// succeeded notes that a commit has succeeded: the next error is reported, even if it is
// the same.
func (p *reporter) succeeded() { p.last, p.lastIsLock, p.silent = "", false, false }

// once logs a warning, unless it has logged the same one before.
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

// reportUnmovable warns once about each file that the last commit could not replace or
// rename. Such a file does not make the commit fail.
func (c *committer) reportUnmovable() {
	if c.mounted != nil {
		c.report.once("%v; %s; the other files are not affected", c.mounted, Remedy(c.mounted))
		c.mounted = nil
	}
	err := c.store.rotateError()
	if err != nil {
		c.report.once("%v; the log is not rotated and continues to grow", err)
	}
}

// Remedy returns what an operator can do about a write error of package writer. It
// returns "" if the text of the error already contains a remedy, or if none is known.
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
