package journal

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// sendTimeout is how long one send waits until journald has room in its receive
// queue. Then the Mirror connects again, because another journald may have bound
// the path.
const sendTimeout = time.Second

// DefaultSocket is the path of journald's socket.
const DefaultSocket = "/run/systemd/journal/socket"

// Present reports whether path is a socket. It checks DefaultSocket if path is
// empty. It does not connect.
func Present(path string) bool {
	var st unix.Stat_t
	err := unix.Stat(pathOrDefault(path), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

func pathOrDefault(path string) string {
	if path == "" {
		return DefaultSocket
	}
	return path
}

// A socket is a connection to journald, for use by one goroutine. It blocks in the
// kernel while journald has no room, because a loop of attempts would use a whole
// processor while journald is stopped.
type socket struct {
	path string
	fd   int // 0 if not connected
}

// connect connects the socket if it is not connected.
func (s *socket) connect() error {
	if s.fd > 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(int64(sendTimeout))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	if err == nil {
		err = dirfs.Retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: s.path}) })
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

// send sends an entry, and connects first if necessary. If journald has no room,
// send returns EAGAIN: immediately, or after sendTimeout if wait is true. An entry
// that is too large for a datagram is sent in a file.
func (s *socket) send(entry encodedEntry, wait bool) error {
	if err := s.connect(); err != nil {
		return err
	}
	flags := unix.MSG_NOSIGNAL
	if !wait {
		flags |= unix.MSG_DONTWAIT
	}
	err := dirfs.Retry(func() error {
		_, err := unix.SendmsgBuffers(s.fd, entry[:], nil, nil, flags)
		return err
	})
	if err == unix.EMSGSIZE || err == unix.ENOBUFS {
		return s.sendFile(entry, flags)
	}
	return err
}

// sendFile sends an entry in a memfd. It must be sealed, or journald does not
// accept it from an ordinary user (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func (s *socket) sendFile(entry encodedEntry, flags int) error {
	fd, err := unix.MemfdCreate(Identifier, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, part := range entry {
		for len(part) > 0 {
			n, err := dirfs.RetryInt(func() (int, error) { return unix.Write(fd, part) })
			if err != nil {
				return err
			}
			part = part[n:]
		}
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return dirfs.Retry(func() error { return unix.Sendmsg(s.fd, nil, unix.UnixRights(fd), nil, flags) })
}

// isAbsent reports whether err means that no journald listens on the socket: the
// socket does not exist yet, or its journald has ended.
func isAbsent(err error) bool {
	switch err {
	case unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, unix.ENOTCONN, unix.EPIPE, unix.EACCES:
		return true
	}
	return false
}
