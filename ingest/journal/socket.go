package journal

import (
	"time"

	"golang.org/x/sys/unix"
)

// sendWait is the deadline of a send. A journal that is busy or away for so long
// is dialled anew: another may have taken its path.
const sendWait = time.Second

// DefaultSocket is where journald takes entries.
const DefaultSocket = "/run/systemd/journal/socket"

// Present reports whether there is a socket at path, DefaultSocket if empty.
func Present(path string) bool {
	var st unix.Stat_t
	return unix.Stat(orDefault(path), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

func orDefault(path string) string {
	if path == "" {
		return DefaultSocket
	}
	return path
}

// A socket is a connection to journald whose sends wait for room until a
// deadline. The kernel does the waiting: to ask again and again burns a core
// where journald is stopped.
type socket struct {
	path string
	fd   int // 0 if not connected
}

func (s *socket) dial() error {
	if s.fd > 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	deadline := unix.NsecToTimeval(int64(sendWait))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &deadline)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: s.path})
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd = fd
	return nil
}

func (s *socket) close() {
	if s.fd > 0 {
		unix.Close(s.fd)
	}
	s.fd = 0
}

// send sends an entry. Where the other end has no room, until the deadline if it
// is to wait, it fails with EAGAIN. What is larger than a datagram may be goes in
// a sealed memfd.
func (s *socket) send(entry []byte, wait bool) error {
	if err := s.dial(); err != nil {
		return err
	}
	flags := unix.MSG_NOSIGNAL
	if !wait {
		flags |= unix.MSG_DONTWAIT
	}
	err := unix.Sendto(s.fd, entry, flags, nil)
	if err == unix.EMSGSIZE || err == unix.ENOBUFS {
		return s.sendFile(entry, flags)
	}
	return err
}

func (s *socket) sendFile(entry []byte, flags int) error {
	fd, err := unix.MemfdCreate(Identifier, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(entry) > 0 {
		n, err := unix.Write(fd, entry)
		if err != nil && err != unix.EINTR {
			return err
		}
		entry = entry[max(n, 0):]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return unix.Sendmsg(s.fd, nil, unix.UnixRights(fd), nil, flags)
}

// isGone reports whether err says that nobody is at the other end: the socket
// is not there yet, or whoever had it bound is gone.
func isGone(err error) bool {
	switch err {
	case unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, unix.ENOTCONN, unix.EPIPE, unix.EACCES:
		return true
	}
	return false
}
