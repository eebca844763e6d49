// Package watch waits for a state directory to change.
//
// It uses inotify(7), which watches inodes, not paths. So every directory on the
// path is watched for the next name on it, and all watches are set again when one
// of these names changes. The directory may be missing, and may be created, removed,
// renamed, replaced, mounted over, or reached through symbolic links: each of these
// is a change.
//
// Watch before you read: any change after Open, or after Wait has returned, ends
// the next Wait.
//
//	d, err := watch.Open(path)
//	for err == nil && !done(path) {
//		_, err = d.Wait(-1)
//	}
//
// inotify does not report changes that are made elsewhere to a shared file system, such
// as 9p, NFS or FUSE. If a directory on the path may be on one, Wait also returns every
// PollInterval. It does the same, and nothing else, while a limit of inotify is reached.
// Changes in a directory on the path that the process may search but not read are missed.
package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// PollInterval is how long Wait waits at most if the directory may be on a shared file
// system, or if a limit of inotify is reached. It is short enough for a person, and takes no
// measurable processor time.
const PollInterval = time.Second

// A Dir is a directory that is watched. Not for concurrent use.
//
// Between two calls, watches is never nil. It is complete: it covers the path as it was
// when it was set, and its inotify queue holds every change since. While a limit is
// reached, it is empty instead, and its fd is -1.
type Dir struct {
	// Stop is a descriptor, or 0 for none. Wait returns when it is readable, and
	// reads nothing from it.
	Stop int

	// Output is a descriptor, or 0 for none. Wait returns when nothing reads from it
	// any more: the other end of a pipe is closed, or a terminal is hung up.
	Output int

	path    string // absolute
	mounts  int    // /proc/self/mountinfo; -1 if it cannot be opened
	watches *watches
	limit   string    // of inotify that is reached; "" for none
	polled  time.Time // when Open or Wait last returned a change
}

// Limit returns the name of the limit of inotify that is reached, such as
// fs.inotify.max_user_instances (inotify(7)), so that Wait polls; "" if none is. Each
// Wait may change it.
func (d *Dir) Limit() string { return d.limit }

// Open watches the directory at path, which need not exist. The caller must call
// Close. It succeeds although a limit of inotify is reached.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, polled: time.Now()}
	// It reports mounts since it was opened (proc_pid_mountinfo(5), POLLPRI), so it is
	// opened before the path is read. Without /proc, mounts are missed.
	d.mounts, err = dirfs.RetryInt(func() (int, error) {
		return unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		d.mounts = -1
	}
	if err := d.reset(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the watch. The Dir must not be used again.
func (d *Dir) Close() {
	if d.watches != nil {
		d.watches.close()
	}
	if d.mounts >= 0 {
		unix.Close(d.mounts)
	}
}

// Wait waits until something has changed in the directory, or on the path to it,
// since Open or since Wait last returned; then changed is true. It is false if the
// timeout is over, Stop is readable or nothing reads from Output. A negative timeout
// never ends. Wait may report a change when there was none. It never misses one, except
// that it may miss one until PollInterval is over on a shared file system, and while a
// limit of inotify is reached.
func (d *Dir) Wait(timeout time.Duration) (changed bool, err error) {
	defer func() {
		if changed {
			d.polled = time.Now()
		}
	}()
	deadline := time.Now().Add(timeout)
	for {
		limit := timeout
		if d.watches.shared {
			untilPoll := max(0, PollInterval-time.Since(d.polled))
			if timeout < 0 || untilPoll < timeout {
				limit = untilPoll
			}
		}
		inotify, mounts, stop, err := d.poll(limit)
		if err != nil {
			return false, err
		}
		inside, onPath := false, false
		if inotify {
			inside, onPath = d.watches.drain()
		}
		switch {
		case mounts, onPath:
			return true, d.reset()
		case inside:
			return true, nil
		case stop:
			return false, nil
		case d.watches.shared && time.Since(d.polled) >= PollInterval:
			return true, d.reset()
		}
		if timeout >= 0 {
			timeout = time.Until(deadline)
			if timeout <= 0 {
				return false, nil
			}
		}
	}
}

// poll waits until a descriptor is ready, for at most timeout, and reports which. A
// signal ends it early, with none ready: Wait calls it again with the time that is
// left.
func (d *Dir) poll(timeout time.Duration) (inotify, mounts, stop bool, err error) {
	fds := [...]unix.PollFd{
		{Fd: int32(d.watches.fd), Events: unix.POLLIN},
		{Fd: int32(d.mounts), Events: unix.POLLPRI}, // poll ignores a negative one
		{Fd: -1, Events: unix.POLLIN},
		{Fd: -1}, // poll always reports POLLERR and POLLHUP
	}
	if d.Stop > 0 {
		fds[2].Fd = int32(d.Stop)
	}
	if d.Output > 0 {
		fds[3].Fd = int32(d.Output)
	}
	_, err = unix.Poll(fds[:], milliseconds(timeout))
	if err == unix.EINTR {
		return false, false, false, nil
	}
	if err != nil {
		return false, false, false, os.NewSyscallError("poll", err)
	}
	return fds[0].Revents != 0, fds[1].Revents != 0, fds[2].Revents != 0 || fds[3].Revents != 0, nil
}

// milliseconds returns a timeout for poll(2). It rounds up, because a timeout of 0
// would let Wait spin.
func milliseconds(timeout time.Duration) int {
	if timeout < 0 {
		return -1
	}
	return int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// reset sets watches for the path as it is now. The events in the queue of the old
// watches are dropped, so the caller must report a change. It closes the old watches
// first, because they count towards the limits.
func (d *Dir) reset() error {
	if d.watches != nil {
		d.watches.close()
	}
	var err error
	d.watches, err = newWatches(d.path)
	d.limit = limitOf(err)
	if d.limit != "" {
		return nil
	}
	return err
}

// newWatches sets watches for a path. With an error, it returns the empty watches, which
// make Wait poll.
func newWatches(path string) (*watches, error) {
	none := &watches{fd: -1, target: -1, shared: true}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return none, os.NewSyscallError("inotify_init", err)
	}
	w := &watches{fd: fd, names: make(map[int32][]string)}
	if err := w.walk(path); err != nil {
		w.close()
		return none, err
	}
	return w, nil
}

func (w *watches) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}

// limitOf returns the limit of inotify that err reports; "" if err reports none.
// inotify_init(2) returns EMFILE for two limits. The other one is that of open files,
// with which a descriptor cannot be duplicated either.
func limitOf(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "fs.inotify.max_user_watches"
	case errors.Is(err, unix.EMFILE):
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return ""
		}
		unix.Close(fd)
		return "fs.inotify.max_user_instances"
	}
	return ""
}

// The events that are watched for.
const (
	// namesChange is for a directory on the path: names are added and removed.
	namesChange = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	// anyChange is for the directory itself: files change too.
	anyChange = namesChange | unix.IN_MODIFY | unix.IN_ATTRIB
	// pathChanged are the events that are sent when a watched directory was moved or
	// removed, or when the queue was full and events are lost.
	pathChanged = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED | unix.IN_Q_OVERFLOW
)

// watches are the watches for one state of the path.
//
// Each directory on the path has a watch, and names are the names in it that the
// path continues with; with symbolic links, a directory can be on the path more than
// once. target is the watch of the last directory, in which every name counts, or -1
// if that directory does not exist. shared is true if the last directory that exists may
// be on a shared file system. Wait polls if shared is true.
type watches struct {
	fd     int // of inotify, not blocking; -1 for none
	names  map[int32][]string
	target int32
	shared bool
}

// maxLinks is how many symbolic links the kernel follows (path_resolution(7)).
const maxLinks = 40

// walk follows path. It watches each directory before it reads the next name there, so
// a change during the walk is an event in the queue. It ends at the first name that
// does not exist.
func (w *watches) walk(path string) error {
	w.target = -1
	at, rest := "/", strings.Split(path, "/")
	defer func() { w.shared = isShared(at) }()
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // from a link; at contains no symbolic link, so its parent is right
			at = filepath.Dir(at)
			continue
		}
		watchErr := w.watchName(at, name)
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return watchErr // a directory that cannot be read is an error only if the path ends there
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		links++
		if err != nil || links > maxLinks {
			return watchErr
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	var err error
	w.target, err = w.add(at, anyChange)
	return err
}

// isShared reports whether the directory at path may be on a file system that another
// machine, or another process that serves the file system, can change. All file systems
// count as shared but those that only this kernel changes.
func isShared(path string) bool {
	var st unix.Statfs_t
	if dirfs.Retry(func() error { return unix.Statfs(path, &st) }) != nil {
		return false
	}
	return !slices.Contains(localTypes, int64(st.Type)) || is9p(path)
}

// is9p reports whether the directory at path is on 9p, for which statfs(2) returns the
// type of the file system of the server.
func is9p(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || unix.Major(uint64(st.Dev)) != 0 { // 9p has no device
		return false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && has9p(string(mounts), uint64(st.Dev))
}

// has9p reports whether a device is 9p, according to the text of a mountinfo file
// (proc_pid_mountinfo(5)).
func has9p(mounts string, device uint64) bool {
	id := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	for line := range strings.Lines(mounts) { // 36 35 0:42 / /mnt rw,noatime shared:1 - 9p source rw
		mount, fileSystem, _ := strings.Cut(line, " - ")
		f := strings.Fields(mount)
		if len(f) > 2 && f[2] == id && strings.HasPrefix(fileSystem, "9p ") {
			return true
		}
	}
	return false
}

// localTypes are the types of the file systems that only this kernel changes (statfs(2)).
var localTypes = []int64{
	unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC,
	unix.F2FS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC,
	unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.ISOFS_SUPER_MAGIC, unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC,
	zfsMagic, bcachefsMagic,
}

// The types of two file systems that package unix does not have.
const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
)

// watchName watches for changes of name in the directory at path.
func (w *watches) watchName(path, name string) error {
	wd, err := w.add(path, namesChange)
	w.names[wd] = append(w.names[wd], name)
	return err
}

// add watches the directory at path. If the directory does not exist, it returns -1 and
// no error: the watch of its parent reports when one is created.
func (w *watches) add(path string, mask uint32) (wd int32, err error) {
	n, err := dirfs.RetryInt(func() (int, error) { return unix.InotifyAddWatch(w.fd, path, mask|unix.IN_ONLYDIR) })
	if errors.Is(err, fs.ErrNotExist) || err == unix.ENOTDIR {
		return -1, nil
	}
	if err != nil {
		return -1, &fs.PathError{Op: "watch", Path: path, Err: err}
	}
	return int32(n), nil
}

// queueSize is how many bytes are read at a time: some hundred events.
const queueSize = 16 << 10

// maxDrain is how many times the queue is read at a time. A process that changes files
// without a pause could fill the queue as fast as it is read.
const maxDrain = 16

// drain reads the events in the queue, and reports whether one is about a file in the
// directory, and whether one is about the path.
func (w *watches) drain() (inside, onPath bool) {
	var buf [queueSize]byte
	for range maxDrain {
		n, err := dirfs.RetryInt(func() (int, error) { return unix.Read(w.fd, buf[:]) })
		if err != nil || n < unix.SizeofInotifyEvent {
			return inside, onPath // EAGAIN: the queue is empty
		}
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			watch, mask, name, size := parseEvent(events)
			events = events[size:]
			if mask&pathChanged != 0 || slices.Contains(w.names[watch], name) {
				onPath = true
			}
			// A file whose name begins with a dot is a temporary one, which matters
			// only once it is renamed.
			if watch == w.target && !strings.HasPrefix(name, ".") {
				inside = true
			}
		}
	}
	return inside, onPath
}

// parseEvent parses the first struct inotify_event of events (inotify(7)). size is
// its size in bytes.
func parseEvent(events []byte) (watch int32, mask uint32, name string, size int) {
	watch = int32(binary.NativeEndian.Uint32(events))
	mask = binary.NativeEndian.Uint32(events[4:])
	nameSize := int(binary.NativeEndian.Uint32(events[12:]))
	size = unix.SizeofInotifyEvent + nameSize
	name = strings.TrimRight(string(events[unix.SizeofInotifyEvent:size]), "\x00")
	return watch, mask, name, size
}
