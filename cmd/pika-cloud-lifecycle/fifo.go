package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// fifoInterval is how often a fifoWatch looks at the path. A writer that opens the path
// between two looks fails, or creates a regular file.
const fifoInterval = time.Second

// A fifoWatch warns if the path of the stream's FIFO no longer leads to it: programs could
// then not reach the stream. If nothing is at the path, it creates another FIFO there.
//
// The stream continues to read the first FIFO, because programs may still have it open. What
// is written to a later FIFO is copied to the first one. first is its write end, and write
// that of the FIFO that belongs at the path; both keep their FIFO from ending between two
// writers, and are -1 after closeWriters.
type fifoWatch struct {
	name string // of the subcommand
	path string
	warn func(line string)

	mu      sync.Mutex
	id      dirfs.ID // of the FIFO that belongs at the path
	created bool     // by this process
	first   int
	write   int
	copies  []*fifoCopy
	warned  string // the last warning; empty once the path leads to the FIFO again
	over    bool   // a stop was requested: nothing is created any more
}

// watchFIFO watches the FIFO whose ends are read and write. write is -1 if another process
// keeps the FIFO: then nothing is created. It does not look at a path that does not lead to
// the FIFO from the start, such as that of systemd in another mount namespace.
func watchFIFO(name, path string, read, write int, created bool, warn func(string)) *fifoWatch {
	var opened unix.Stat_t
	_ = unix.Fstat(read, &opened)
	w := &fifoWatch{name: name, path: path, warn: warn, id: dirfs.IDOf(&opened), created: created, first: write, write: write}
	switch {
	case !w.isAtPath() && opened.Nlink > 0:
	case write < 0:
		startOnThread(func() { w.run(func() { w.readNext(read) }) })
	default:
		startOnThread(func() { w.run(func() { w.replace(&opened) }) })
	}
	return w
}

// run calls gone each time when the path does not lead to the FIFO, and copies lines
// meanwhile. After a stop was requested, it copies until all copies have ended.
func (w *fifoWatch) run(gone func()) {
	for next := time.Now().Add(fifoInterval); ; {
		w.mu.Lock()
		over := w.over
		if !over && !time.Now().Before(next) {
			w.look(gone)
			next = time.Now().Add(fifoInterval)
		}
		copies := slices.DeleteFunc(slices.Clone(w.copies), (*fifoCopy).hasEnded)
		w.mu.Unlock()
		switch {
		case !over:
			copyAll(copies, time.Until(next))
		case len(copies) > 0:
			copyAll(copies, fifoInterval)
		default:
			return
		}
	}
}

// look calls gone if the path does not lead to the FIFO.
func (w *fifoWatch) look(gone func()) {
	if w.isAtPath() {
		w.warned = ""
		return
	}
	gone()
}

// isAtPath reports whether the path leads to the FIFO.
func (w *fifoWatch) isAtPath() bool {
	var st unix.Stat_t
	return unix.Lstat(w.path, &st) == nil && dirfs.IDOf(&st) == w.id
}

// warnOnce warns, but does not repeat its last warning.
func (w *fifoWatch) warnOnce(format string, args ...any) {
	text := w.name + ": " + w.path + ": " + fmt.Sprintf(format, args...)
	if text != w.warned {
		w.warn(text)
		w.warned = text
	}
}

// replace creates a FIFO at the path, or opens the one that is there.
func (w *fifoWatch) replace(like *unix.Stat_t) {
	err := unix.Mkfifo(w.path, 0o600)
	created := err == nil
	if err == unix.EEXIST {
		err = nil
	}
	var read, write int
	if err == nil {
		read, write, err = openBothEnds(w.path)
	}
	if err != nil {
		w.warnNotReplaced(err)
		return
	}
	text := "the FIFO was replaced by another one; reading both"
	if created {
		text = "the FIFO was removed; created it again"
		if err := restoreMode(read, like); err != nil {
			text += fmt.Sprintf(", but only for its owner: %v; correct its owner and mode with chown and chmod", err)
		}
	}
	w.copyTo(w.first, read, write, created, text)
}

// readNext reads the FIFO that is at the path after the socket unit was restarted. passed is
// the first FIFO, as systemd has opened it: for reading and writing.
func (w *fifoWatch) readNext(passed int) {
	read, write, err := openBothEnds(w.path)
	switch err {
	case nil:
	case errNotFIFO, unix.ELOOP, unix.ENOENT:
		w.warnOnce("the FIFO of the socket unit was removed or replaced; restart the socket unit")
		return
	default:
		w.warnOnce("the FIFO of the socket unit was replaced by one that cannot be opened: %v; restart this unit", err)
		return
	}
	w.copyTo(passed, read, write, false, "the FIFO of the socket unit was replaced by another one; reading both")
}

// copyTo copies what arrives in another FIFO to the first one, and warns with text.
func (w *fifoWatch) copyTo(first, read, write int, created bool, text string) {
	to, err := unix.FcntlInt(uintptr(first), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(read)
		unix.Close(write)
		w.warnOnce("the FIFO was removed: %v; raise the limit of open files (ulimit -n)", err)
		return
	}
	w.warn(w.name + ": " + w.path + ": " + text)
	if w.write != w.first {
		unix.Close(w.write) // its copy ends with its last writer
	}
	var st unix.Stat_t
	_ = unix.Fstat(read, &st)
	w.id, w.created, w.write, w.warned = dirfs.IDOf(&st), created, write, ""
	w.copies = append(w.copies, &fifoCopy{from: read, to: to, buf: make([]byte, 0, 64<<10)})
}

// warnNotReplaced warns that replace has failed with err.
func (w *fifoWatch) warnNotReplaced(err error) {
	switch err {
	case errNotFIFO, unix.ELOOP:
		w.warnOnce("the FIFO was replaced by another file, which is not read; remove it, and %s creates the FIFO again", w.name)
	case errInUse:
		w.warnOnce("the FIFO was replaced by one that another run or ingest reads; stop that one")
	case unix.ENOENT:
		w.warnOnce("the FIFO and its directory were removed; create the directory, and %s creates the FIFO again", w.name)
	default:
		w.warnOnce("the FIFO was removed and cannot be opened again: %v; create it with mkfifo", err)
	}
}

// restoreMode gives a FIFO the owner and the mode of another one. It changes nothing if it
// cannot set the owner, because the mode could then admit other users than before.
func restoreMode(fd int, like *unix.Stat_t) error {
	if err := unix.Fchown(fd, int(like.Uid), int(like.Gid)); err != nil {
		return os.NewSyscallError("chown", err)
	}
	return os.NewSyscallError("chmod", unix.Fchmod(fd, like.Mode&0o7777))
}

// settleTime is how long settle waits at most. The stream reads meanwhile, so it is over
// sooner unless the disk fails.
const settleTime = 5 * time.Second

// settle waits until everything that has arrived is in the first FIFO: a stream that is
// requested to stop reads at least all lines that have arrived there.
func (w *fifoWatch) settle() {
	w.mu.Lock()
	copies := w.copies
	if w.over { // an earlier stop has waited
		copies = nil
	}
	w.over = true
	w.mu.Unlock()
	end := time.Now().Add(settleTime)
	for _, c := range copies {
		for !c.isIdle() && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
	}
}

// closeWriters lets the first FIFO end with the last writer of all FIFOs.
func (w *fifoWatch) closeWriters() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.first < 0 {
		return
	}
	if w.write != w.first {
		unix.Close(w.write)
	}
	unix.Close(w.first)
	w.first, w.write = -1, -1
}

// remove ends the watch, and removes the FIFO if this process has created it and it is still
// at its path.
func (w *fifoWatch) remove() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.created && w.isAtPath() {
		_ = unix.Unlink(w.path)
		w.created = false // another FIFO may get its inode
	}
}

// A fifoCopy copies lines from one FIFO to another.
type fifoCopy struct {
	from, to int

	mu    sync.Mutex // held from a read until its lines are written
	buf   []byte     // an incomplete line
	ended bool
}

// copyAll copies what arrives, and returns after a copy or after limit.
func copyAll(copies []*fifoCopy, limit time.Duration) {
	fds := make([]unix.PollFd, len(copies))
	for i, c := range copies {
		fds[i] = unix.PollFd{Fd: int32(c.from), Events: unix.POLLIN}
	}
	_, _ = unix.Poll(fds, int(max(0, limit).Milliseconds())+1)
	for i, c := range copies {
		if fds[i].Revents != 0 {
			c.copy()
		}
	}
}

// copy copies what has arrived, and ends the copy if from has ended.
func (c *fifoCopy) copy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := dirfs.RetryInt(func() (int, error) { return unix.Read(c.from, c.buf[len(c.buf):cap(c.buf)]) })
	if err == unix.EAGAIN {
		return
	}
	c.buf = c.buf[:len(c.buf)+max(n, 0)]
	c.ended = n <= 0
	rest, err := c.writeLines(c.buf)
	c.buf = append(c.buf[:0], rest...)
	if c.ended || err != nil {
		unix.Close(c.from)
		unix.Close(c.to)
		c.ended = true
	}
}

func (c *fifoCopy) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// pipeBuf is PIPE_BUF: a write of at most so many bytes is not mixed with those of other
// writers (pipe(7)).
const pipeBuf = 4096

// writeLines writes as many whole lines as possible with each write. It returns the
// incomplete line at the end, unless from has ended or the line is longer than pipeBuf.
func (c *fifoCopy) writeLines(text []byte) (rest []byte, err error) {
	for len(text) > 0 {
		n := 1 + bytes.LastIndexByte(text[:min(len(text), pipeBuf)], '\n')
		switch {
		case n > 0:
		case c.ended, len(text) > pipeBuf:
			n = min(len(text), pipeBuf)
		default:
			return text, nil
		}
		n, err := dirfs.RetryInt(func() (int, error) { return unix.Write(c.to, text[:n]) })
		switch {
		case err == unix.EAGAIN:
			poll(c.to, unix.POLLOUT, -1)
			continue
		case err != nil:
			return nil, err
		}
		text = text[n:]
	}
	return nil, nil
}

// isIdle reports whether everything that has arrived was written.
func (c *fifoCopy) isIdle() bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.ended {
		return true
	}
	arrived, err := unix.IoctlGetInt(c.from, unix.TIOCINQ)
	return err != nil || arrived == 0
}

// pathOf returns the path with which a descriptor was opened.
func pathOf(fd int) (string, error) {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err == nil && !strings.HasPrefix(path, "/") {
		err = errors.New("not a path")
	}
	return strings.TrimSuffix(path, " (deleted)"), err
}
