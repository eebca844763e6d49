package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// The variables that lead to the stream, beside streamVar.
const (
	// streamIDVar has the device and the inode of the stream, as JOURNAL_STREAM of
	// systemd.exec(5) has those of the journal. sudo(8) and others close descriptors, so
	// that the number in streamVar may be another file.
	streamIDVar = "PIKA_LIFECYCLE_STREAM"
	// fifoVar has the path of the stream's FIFO.
	fifoVar = "PIKA_LIFECYCLE_FIFO"
)

// streamEnv returns the variable with the device and the inode of a stream's write end.
func streamEnv(fd int) string {
	var st unix.Stat_t
	_ = unix.Fstat(fd, &st)
	return fmt.Sprintf("%s=%d:%d", streamIDVar, st.Dev, st.Ino)
}

// A channel leads to a stream.
type channel struct {
	name   string // for messages
	fd     int
	shared bool // fd was inherited: other processes use the same open file, and a write may block
}

// openNamed opens the FIFO that --to names. It follows symbolic links, such as /dev/fd/3.
func openNamed(path string) (channel, error) {
	fd, err := openFIFOFor(path, 0)
	if err == unix.ENOENT {
		return channel{}, fmt.Errorf("send: --to %s: %w; name the FIFO of ingest --fifo, of run --fifo or of the socket unit", path, err)
	}
	return channel{name: path, fd: fd}, explainOpen("--to "+path, err)
}

// openUnit opens the FIFO of the systemd units.
func openUnit(path string) (channel, error) {
	fd, err := openFIFOFor(path, unix.O_NOFOLLOW)
	if err == unix.ENOENT {
		return channel{}, fmt.Errorf("send: %s: %w; start its socket unit, start this program with run, or name a FIFO with --to", path, err)
	}
	return channel{name: path, fd: fd}, explainOpen(path, err)
}

// openGiven opens the stream that run has given to its command.
func (a *app) openGiven() (channel, error) {
	var cause error
	if text := a.getenv(streamVar); text != "" {
		fd, err := streamDescriptor(text, a.getenv(streamIDVar))
		if err == nil {
			return reopen(fd)
		}
		cause = err
	}
	path := a.getenv(fifoVar)
	if path == "" {
		return channel{}, fmt.Errorf("send: %w; start the outer command with run --fifo PATH, or name a FIFO with --to", cause)
	}
	fd, err := openFIFOFor(path, unix.O_NOFOLLOW)
	return channel{name: path, fd: fd}, explainOpen(fifoVar+"="+path, err)
}

// streamDescriptor returns the descriptor that streamVar names, if it is still the stream:
// a pipe or a socket that is open for writing and, if id is not empty, has this identity.
func streamDescriptor(text, id string) (int, error) {
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 0 {
		return -1, fmt.Errorf("%s is %q, which is not a descriptor", streamVar, text)
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return -1, fmt.Errorf("descriptor %d of %s is closed, as sudo and some libraries do", fd, streamVar)
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	kind := st.Mode & unix.S_IFMT
	switch {
	case id != "" && streamIDVar+"="+id != streamEnv(fd):
		return -1, fmt.Errorf("descriptor %d of %s is not the stream any more, but another file", fd, streamVar)
	case kind != unix.S_IFIFO && kind != unix.S_IFSOCK:
		return -1, fmt.Errorf("descriptor %d of %s is not a pipe", fd, streamVar)
	case err != nil || mode&unix.O_ACCMODE == unix.O_RDONLY:
		return -1, fmt.Errorf("descriptor %d of %s is not open for writing", fd, streamVar)
	}
	return fd, nil
}

// reopen opens the pipe of an inherited descriptor once more, so that O_NONBLOCK does not
// change for the processes that share the descriptor (fcntl(2)). If that is not possible,
// because the descriptor is a socket, because the pipe belongs to another user, or without
// /proc, it returns the descriptor itself.
func reopen(fd int) (channel, error) {
	name := fmt.Sprintf("descriptor %d of %s", fd, streamVar)
	own, err := openFIFOFor("/proc/self/fd/"+strconv.Itoa(fd), 0)
	switch err {
	case nil:
		return channel{name: name, fd: own}, nil
	case unix.ENXIO:
		if isPipe(fd) {
			return channel{}, explainOpen(name, err)
		}
	}
	return channel{name: name, fd: fd, shared: true}, nil
}

// openFIFOFor opens a FIFO for writing, without waiting for its reader.
func openFIFOFor(path string, flags int) (int, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC|flags, 0)
	if err == nil && !isPipe(fd) {
		unix.Close(fd)
		return -1, errNotFIFO
	}
	return fd, err
}

// explainOpen returns the error of openFIFOFor with what to do about it; nil if err is nil.
func explainOpen(name string, err error) error {
	switch err {
	case nil:
		return nil
	case errNotFIFO, unix.EISDIR:
		return fmt.Errorf("send: %s is not a FIFO; name the FIFO that run or ingest reads", name)
	case unix.ELOOP:
		return fmt.Errorf("send: %s is a symbolic link; name the FIFO itself", name)
	case unix.ENXIO:
		return fmt.Errorf("send: %s: no program reads it; start run --fifo or ingest --fifo first", name)
	case unix.EACCES, unix.EPERM:
		return fmt.Errorf("send: %s: %w; use root, or create the FIFO for this user's group (mkfifo -m 620)", name, err)
	}
	return fmt.Errorf("send: %s: %w; name a FIFO with --to", name, err)
}

// write writes a line with one write(2). If the channel is full, it waits until the timeout
// is over.
func (c *channel) write(line []byte, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for len(line) > 0 {
		n, err := c.tryWrite(line, deadline)
		rest := time.Until(deadline)
		switch {
		case err == nil:
			line = line[n:] // a socket may take a part
		case err == unix.EAGAIN && rest > 0:
			pollFor(c.fd, unix.POLLOUT, rest)
		case err == unix.EAGAIN:
			return fmt.Errorf("send: %s is full, and its reader has read nothing for %v; see why run or ingest does not read, or set a longer --timeout", c.name, timeout)
		case err == unix.EPIPE, err == unix.ECONNRESET:
			return fmt.Errorf("send: %s: its reader has ended; start run or ingest again", c.name)
		default:
			return fmt.Errorf("send: %s: %w; name a FIFO with --to", c.name, err)
		}
	}
	return nil
}

// tryWrite writes once. It returns EAGAIN if the channel is full.
func (c *channel) tryWrite(line []byte, deadline time.Time) (int, error) {
	switch {
	case !c.shared:
		return dirfs.RetryInt(func() (int, error) { return unix.Write(c.fd, line) })
	case !isPipe(c.fd):
		return dirfs.RetryInt(func() (int, error) {
			return unix.SendmsgN(c.fd, line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		})
	case !pollFor(c.fd, unix.POLLOUT, 0):
		return 0, unix.EAGAIN
	}
	return c.writeShared(line, deadline)
}

// writeShared writes to a pipe that had space a moment ago. If another process has filled it
// since, the write blocks; the end of this process then ends it, and nothing is written,
// because a write of at most PIPE_BUF bytes is atomic (pipe(7)).
func (c *channel) writeShared(line []byte, deadline time.Time) (n int, err error) {
	const least = 100 * time.Millisecond // for a --timeout of 0s
	done := make(chan struct{})
	go func() {
		n, err = dirfs.RetryInt(func() (int, error) { return unix.Write(c.fd, line) })
		close(done)
	}()
	select {
	case <-done:
		return n, err
	case <-time.After(max(time.Until(deadline), least)):
		return 0, unix.EAGAIN
	}
}

// pollFor waits until fd is ready for event, or the limit is over, or a signal arrives. It
// reports whether fd is ready, or has an error.
func pollFor(fd int, event int16, limit time.Duration) bool {
	ts := unix.NsecToTimespec(int64(limit))
	n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: event}}, &ts, nil)
	return n > 0
}
