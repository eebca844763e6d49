package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A channel leads to the stream of a run or ingest.
type channel struct {
	name   string // for messages
	fd     int
	shared bool // fd was inherited: other processes use the same open file, and a write may block
}

// openNamed opens the FIFO that --to names. It follows symbolic links, because /dev/fd/3 is
// one.
func openNamed(path string) (channel, error) {
	fd, err := openToWrite(path, 0)
	return newChannel("--to "+path, fd, err, "name the FIFO of run --fifo, of ingest --fifo or of the socket unit")
}

// openUnit opens the FIFO of the systemd units.
func (a *app) openUnit(path string) (channel, error) {
	fd, err := openToWrite(path, unix.O_NOFOLLOW)
	remedy := "start " + socketUnit + ", start this program with run, or name a FIFO with --to"
	if a.getenv("SUDO_COMMAND") != "" { // sudo(8) has set it
		remedy = "start " + socketUnit + ", or name the FIFO of run --fifo with --to: sudo removes the variables of run"
	}
	return newChannel(path, fd, err, remedy)
}

// openGiven opens the stream of the run that has started this process. It must not open
// any other: a directive of one guest would be recorded as another one's.
func (a *app) openGiven() (channel, error) {
	text, path := a.getenv(streamVar), a.getenv(fifoVar)
	if text != "" {
		fd, err := streamDescriptor(text, a.getenv(streamIDVar))
		if err == nil {
			return reopen(fd)
		}
		if path == "" {
			return channel{}, fmt.Errorf("send: %w; start the outer command with run --fifo, or name a FIFO with --to", err)
		}
	}
	fd, err := openToWrite(path, unix.O_NOFOLLOW)
	return newChannel(path+", the FIFO of "+fifoVar, fd, err, "its run has ended; send reports only to a run that is alive")
}

// streamDescriptor returns the descriptor that streamVar names, if it is still the stream:
// a pipe or a socket that is open for writing and, unless id is empty, the one with this
// device and inode.
func streamDescriptor(text, id string) (int, error) {
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 0 {
		return -1, fmt.Errorf("%s is %q, which is not the number of a descriptor", streamVar, text)
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return -1, fmt.Errorf("descriptor %d of %s is closed, because sudo or another program in between has closed it", fd, streamVar)
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	kind := st.Mode & unix.S_IFMT
	switch {
	case id != "" && id != streamID(fd):
		return -1, fmt.Errorf("descriptor %d of %s is not the stream of %s: sudo or another program in between has closed it", fd, streamVar, streamIDVar)
	case kind != unix.S_IFIFO && kind != unix.S_IFSOCK:
		return -1, fmt.Errorf("descriptor %d of %s is not a pipe", fd, streamVar)
	case err != nil || mode&unix.O_ACCMODE == unix.O_RDONLY:
		return -1, fmt.Errorf("descriptor %d of %s is not open for writing", fd, streamVar)
	}
	return fd, nil
}

// reopen opens the pipe of an inherited descriptor again. Setting O_NONBLOCK on the
// descriptor itself would set it for all processes that share it (fcntl(2)). It returns the
// descriptor itself if it cannot be reopened: it is a socket, the pipe belongs to another
// user, or /proc is not mounted.
func reopen(fd int) (channel, error) {
	name := fmt.Sprintf("descriptor %d of %s", fd, streamVar)
	own, err := openToWrite("/proc/self/fd/"+strconv.Itoa(fd), 0)
	if err == nil || err == unix.ENXIO {
		return newChannel(name, own, err, "")
	}
	return channel{name: name, fd: fd, shared: true}, nil
}

// openToWrite opens a FIFO, and does not wait for a reader. It opens no other file: to open
// a device may already have an effect. noFollow is O_NOFOLLOW or 0.
func openToWrite(path string, noFollow int) (int, error) {
	var st unix.Stat_t
	flag := 0
	if noFollow != 0 {
		flag = unix.AT_SYMLINK_NOFOLLOW
	}
	err := unix.Fstatat(unix.AT_FDCWD, path, &st, flag)
	kind := st.Mode & unix.S_IFMT
	switch {
	case err != nil:
		return -1, err
	case kind == unix.S_IFLNK:
		return -1, unix.ELOOP
	case kind != unix.S_IFIFO:
		return -1, errNotFIFO
	}
	return openIfFIFO(path, unix.O_WRONLY|noFollow) // it may have been replaced in between
}

// newChannel returns the channel that openToWrite has opened, or its error with what to do
// about it. missing is what to do if the file does not exist.
func newChannel(name string, fd int, err error, missing string) (channel, error) {
	switch err {
	case nil:
		return channel{name: name, fd: fd}, nil
	case errNotFIFO:
		return channel{}, fmt.Errorf("send: %s is not a FIFO; name one that run or ingest reads", name)
	case unix.ELOOP:
		return channel{}, fmt.Errorf("send: %s is a symbolic link; name the FIFO itself", name)
	case unix.ENXIO:
		return channel{}, noReaderError(name)
	case unix.ENOENT, unix.ENOTDIR:
		return channel{}, fmt.Errorf("send: %s: %w; %s", name, err, missing)
	case unix.EACCES, unix.EPERM:
		return channel{}, fmt.Errorf("send: %s: %w; run send as root, or let this user's group write to it (chgrp and chmod 620, or SocketGroup= and SocketMode= of the socket unit)", name, err)
	}
	return channel{}, fmt.Errorf("send: %s: %w; name a FIFO with --to", name, err)
}

func noReaderError(name string) error {
	return fmt.Errorf("send: %s has no reader; start run or ingest first", name)
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
			line = line[n:] // a socket may take only a part
		case err == unix.EAGAIN && rest > 0:
			poll(c.fd, unix.POLLOUT, rest)
		case err == unix.EAGAIN:
			return fmt.Errorf("send: %s is still full after %v; find out why run or ingest does not read, or set a longer --timeout", c.name, timeout)
		case err == unix.EPIPE, err == unix.ECONNRESET:
			return noReaderError(c.name)
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
	case !dirfs.IsPipe(c.fd):
		return dirfs.RetryInt(func() (int, error) {
			return unix.SendmsgN(c.fd, line, nil, nil, unix.MSG_DONTWAIT)
		})
	case !poll(c.fd, unix.POLLOUT, 0):
		return 0, unix.EAGAIN
	}
	return c.writeShared(line, deadline)
}

// writeShared writes to a pipe that was not full a moment ago. If another process has
// filled it since, the write blocks. Then the end of this process ends it, and nothing is
// written: a write of at most PIPE_BUF bytes is atomic (pipe(7)).
func (c *channel) writeShared(line []byte, deadline time.Time) (int, error) {
	const least = 100 * time.Millisecond // with --timeout 0s too, the write needs some time
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := dirfs.RetryInt(func() (int, error) { return unix.Write(c.fd, line) })
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(max(time.Until(deadline), least)):
		return 0, unix.EAGAIN
	}
}
