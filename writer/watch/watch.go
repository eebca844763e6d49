// Package watch waits for a state directory to change.
//
// A reader that looks again and again is late or busy; inotify(7) is neither,
// but knows inodes, not paths. So every directory on the way is watched for
// the next name on it, and the whole is armed anew when one of them changes: the
// directory may be missing, made, removed, renamed, replaced, reached through
// symbolic links or mounted over, and none of it goes by unseen.
//
// Watch first, then look: what happens after Open, or after Wait has returned,
// ends the next Wait.
//
//	d, err := watch.Open(path)
//	for err == nil && !done(path) {
//		_, err = d.Wait(-1)
//	}
//
// Not seen are changes that another machine makes to a shared file system,
// which inotify does not tell, and those to a directory on the way that may be
// passed through but not read.
package watch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Dir is a directory that is watched. Not for concurrent use.
type Dir struct {
	// Stop is a descriptor: Wait ends when there is something to read from
	// it, which stays there. None if 0.
	Stop int

	path   string
	mounts int // /proc/self/mountinfo; -1 where there is none
	armed  *watches
}

// Open watches the directory at path, which need not be there.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	// Opened before anything is looked at: it tells of what is mounted from
	// here on (proc_pid_mountinfo(5), POLLPRI). Best effort: /proc may be missing.
	d.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.mounts = -1
	}
	if err := d.arm(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the watch.
func (d *Dir) Close() {
	if d.armed != nil {
		unix.Close(d.armed.fd)
	}
	if d.mounts >= 0 {
		unix.Close(d.mounts)
	}
}

// Wait waits until something has changed in the directory or on the way to it
// since Open, or since Wait last returned: then changed is true. It is false
// when the timeout is over, or Stop can be read. A negative timeout is none.
// That something has changed may be said once too often, never once too rarely.
func (d *Dir) Wait(timeout time.Duration) (changed bool, err error) {
	deadline := time.Now().Add(timeout)
	for {
		fds := [...]unix.PollFd{{Fd: int32(d.armed.fd), Events: unix.POLLIN},
			{Fd: int32(d.mounts), Events: unix.POLLPRI}, {Fd: -1}}
		if d.Stop > 0 {
			fds[2] = unix.PollFd{Fd: int32(d.Stop), Events: unix.POLLIN}
		}
		n, err := unix.Poll(fds[:], milliseconds(timeout))
		switch {
		case err != nil && err != unix.EINTR:
			return false, os.NewSyscallError("poll", err)
		case n > 0 && fds[1].Revents != 0:
			return true, d.arm()
		case n > 0 && fds[0].Revents != 0:
			if inside, way := d.armed.drain(); way {
				return true, d.arm()
			} else if inside {
				return true, nil
			}
		case n > 0:
			return false, nil
		}
		if timeout >= 0 {
			if timeout = time.Until(deadline); timeout <= 0 {
				return false, nil
			}
		}
	}
}

// milliseconds returns what poll(2) takes, rounded up so that it does not spin.
func milliseconds(timeout time.Duration) int {
	if timeout < 0 {
		return -1
	}
	return int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// arm watches the directory and the way to it as they are now. What the old
// watches still hold is not lost: whoever arms says that there was a change.
func (d *Dir) arm() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init", err)
	}
	armed := &watches{fd: fd, names: make(map[int32][]string)}
	if err := armed.walk(d.path); err != nil {
		unix.Close(fd)
		return err
	}
	if d.armed != nil {
		unix.Close(d.armed.fd)
	}
	d.armed = armed
	return nil
}

// What is watched: in a directory on the way names that come and go, in the
// directory itself whatever changes a file.
const (
	onTheWay = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	everything = onTheWay | unix.IN_MODIFY | unix.IN_ATTRIB
	// itself says that a watched directory is no longer where it was, or that
	// events were lost.
	itself = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED | unix.IN_Q_OVERFLOW
)

// watches is one set of watches, with the names on the way by watch. That of
// the directory itself, where every name counts, is target.
type watches struct {
	fd     int
	names  map[int32][]string
	target int32
}

// maxLinks is how many symbolic links the kernel follows (path_resolution(7)).
const maxLinks = 40

// walk goes the way to path and watches each directory on it before it looks
// for the next name there: what changes behind its back is an event that waits.
func (w *watches) walk(path string) error {
	at, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // of a link; at has none in it
			at = filepath.Dir(at)
			continue
		}
		unseen := w.watchName(at, name)
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			return unseen
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return unseen
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	wd, err := w.add(at, everything)
	w.target = wd
	return err
}

// watchName watches for name to come or go in the directory at path.
func (w *watches) watchName(path, name string) error {
	wd, err := w.add(path, onTheWay)
	w.names[wd] = append(w.names[wd], name)
	return err
}

// add watches the directory at path. One that is gone, or is none, is no error:
// the watch before it tells when there is another.
func (w *watches) add(path string, mask uint32) (wd int32, err error) {
	n, err := unix.InotifyAddWatch(w.fd, path, mask|unix.IN_ONLYDIR)
	if errors.Is(err, fs.ErrNotExist) || err == unix.ENOTDIR {
		return -1, nil
	}
	if err != nil {
		return -1, &fs.PathError{Op: "watch", Path: path, Err: err}
	}
	return int32(n), nil
}

// queue is how much is read at once: some hundred events.
const queue = 16 << 10

// drain takes the events that wait, and tells whether one changed something
// inside the directory, and whether one changed the way to it.
func (w *watches) drain() (inside, way bool) {
	var buf [queue]byte
	for {
		n, err := unix.Read(w.fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if n < unix.SizeofInotifyEvent {
			return inside, way
		}
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(events))
			mask := binary.NativeEndian.Uint32(events[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
			name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
			events = events[end:]
			way = way || mask&itself != 0 || slices.Contains(w.names[wd], name)
			// Files that begin with a dot are temporaries, which tell nothing
			// before they are renamed.
			inside = inside || wd == w.target && !strings.HasPrefix(name, ".")
		}
	}
}
