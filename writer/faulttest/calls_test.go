//go:build linux && amd64

package faulttest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A call is one system call of the traced program that uses the watched directory,
// or an acknowledgement of ingest, which has the name "ack".
//
// object and target are relative to the watched directory, and "*" replaces the
// number of a temporary file, so they are the same in every run. path and other are
// the corresponding absolute paths.
type call struct {
	n    int    // the number of the call, counted from 1; 0 if it is not counted
	name string // the name of the system call, "ack" or "unlock"
	fd   int    // the descriptor of the object; -1 if the call has a path

	object string
	target string // of a rename or link
	path   string
	other  string

	creates   bool   // the call creates a new name
	mayCreate bool   // the call is openat with O_CREAT
	ino       uint64 // of the object, before the call
	length    uint64 // of a write

	done   bool // it had its effect
	failed bool // it returned an error
	again  bool // it was interrupted, and the program repeats it
}

// String describes the call. The text is the same in every run.
func (c *call) String() string {
	text := c.name + " " + c.object
	if c.target != "" {
		text += " " + c.target
	}
	if c.creates {
		text += " (new)"
	}
	return text
}

// An operand has the indexes of the arguments of a system call that name an object:
// a descriptor, a path, or a path relative to a descriptor. -1 means none.
type operand struct{ fd, path int }

// A signature is a system call that may use files.
type signature struct {
	name     string
	operands []operand
}

func byFD(name string) signature   { return signature{name, []operand{{0, -1}}} }
func byPath(name string) signature { return signature{name, []operand{{-1, 0}}} }
func byAt(name string) signature   { return signature{name, []operand{{0, 1}}} }
func byAts(name string) signature  { return signature{name, []operand{{0, 1}, {2, 3}}} }

// signatures returns all system calls with which a Go program can read or change a
// file or a directory, by number. Others are not counted, such as epoll_ctl, which
// os.File tries on every descriptor.
var signatures = sync.OnceValue(func() map[uint64]signature {
	return map[uint64]signature{
		unix.SYS_READ: byFD("read"), unix.SYS_WRITE: byFD("write"),
		unix.SYS_PREAD64: byFD("pread64"), unix.SYS_PWRITE64: byFD("pwrite64"),
		unix.SYS_READV: byFD("readv"), unix.SYS_WRITEV: byFD("writev"),
		unix.SYS_CLOSE: byFD("close"), unix.SYS_FSTAT: byFD("fstat"), unix.SYS_LSEEK: byFD("lseek"),
		unix.SYS_DUP: byFD("dup"), unix.SYS_DUP2: byFD("dup2"), unix.SYS_DUP3: byFD("dup3"),
		unix.SYS_FCNTL: byFD("fcntl"), unix.SYS_FLOCK: byFD("flock"),
		unix.SYS_FSYNC: byFD("fsync"), unix.SYS_FDATASYNC: byFD("fdatasync"),
		unix.SYS_FTRUNCATE: byFD("ftruncate"), unix.SYS_FALLOCATE: byFD("fallocate"),
		unix.SYS_FCHMOD: byFD("fchmod"), unix.SYS_FCHOWN: byFD("fchown"),
		unix.SYS_GETDENTS64: byFD("getdents64"), unix.SYS_SYNCFS: byFD("syncfs"),

		unix.SYS_OPEN: byPath("open"), unix.SYS_CREAT: byPath("creat"),
		unix.SYS_STAT: byPath("stat"), unix.SYS_LSTAT: byPath("lstat"),
		unix.SYS_ACCESS: byPath("access"), unix.SYS_TRUNCATE: byPath("truncate"),
		unix.SYS_MKDIR: byPath("mkdir"), unix.SYS_RMDIR: byPath("rmdir"),
		unix.SYS_UNLINK: byPath("unlink"), unix.SYS_CHMOD: byPath("chmod"),
		unix.SYS_CHOWN: byPath("chown"), unix.SYS_READLINK: byPath("readlink"),
		unix.SYS_RENAME:  {"rename", []operand{{-1, 0}, {-1, 1}}},
		unix.SYS_LINK:    {"link", []operand{{-1, 0}, {-1, 1}}},
		unix.SYS_SYMLINK: {"symlink", []operand{{-1, 1}}},

		unix.SYS_OPENAT: byAt("openat"), unix.SYS_OPENAT2: byAt("openat2"),
		unix.SYS_NEWFSTATAT: byAt("newfstatat"), unix.SYS_STATX: byAt("statx"),
		unix.SYS_MKDIRAT: byAt("mkdirat"), unix.SYS_UNLINKAT: byAt("unlinkat"),
		unix.SYS_READLINKAT: byAt("readlinkat"), unix.SYS_FACCESSAT: byAt("faccessat"),
		unix.SYS_FACCESSAT2: byAt("faccessat2"), unix.SYS_FCHMODAT: byAt("fchmodat"),
		unix.SYS_FCHOWNAT: byAt("fchownat"), unix.SYS_UTIMENSAT: byAt("utimensat"),
		unix.SYS_RENAMEAT: byAts("renameat"), unix.SYS_RENAMEAT2: byAts("renameat2"),
		unix.SYS_LINKAT:    byAts("linkat"),
		unix.SYS_SYMLINKAT: {"symlinkat", []operand{{1, 2}}},
	}
})

// temporary matches the path of a temporary file, which contains a random number.
var temporary = regexp.MustCompile(`(^|/)(\.(?:status|result)\.json(?:\.prev)?)[0-9]+( \(deleted\))?$`)

// changes reports whether a call changes a file or a directory, may create one,
// or makes a change durable.
func changes(c *call) bool {
	switch c.name {
	case "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "fchmod", "mkdirat", "renameat", "renameat2", "unlinkat":
		return true
	}
	return c.mayCreate
}

// decode returns the call that a thread is about to make; nil if it does not use the
// watched directory.
func (tr *tracer) decode(tid int, nr uint64, args [6]uint64) *call {
	sig, ok := signatures()[nr]
	if !ok {
		return nil
	}
	c := &call{name: sig.name, fd: -1}
	if sig.name == "write" && int(args[0]) == ackFD {
		return &call{name: "ack", fd: ackFD}
	}
	if sig.name == "flock" && args[1] == unix.LOCK_UN {
		c.name = "unlock"
	}
	for i, o := range sig.operands {
		path := tr.resolve(tid, o, args)
		if i == 0 {
			c.path = path
		} else {
			c.other = path
		}
	}
	if !tr.watches(c.path) && !tr.watches(c.other) {
		return nil
	}
	if sig.operands[0].path < 0 {
		c.fd = int(int32(args[0]))
	}
	c.object, c.target = tr.relative(c.path), tr.relative(c.other)
	c.length = args[2]
	c.inspect(tid, args)
	return c
}

// inspect records the properties of the object before the call.
func (c *call) inspect(tid int, args [6]uint64) {
	c.mayCreate = c.name == "openat" && args[2]&unix.O_CREAT != 0
	var st unix.Stat_t
	path := c.path
	if c.fd >= 0 {
		path = fmt.Sprintf("/proc/%d/fd/%d", tid, c.fd)
		if unix.Stat(path, &st) == nil {
			c.ino = st.Ino
		}
		return
	}
	if unix.Lstat(path, &st) == nil {
		c.ino = st.Ino
		return
	}
	c.creates = c.name == "mkdirat" || c.mayCreate
}

// resolve returns the absolute path of an operand.
func (tr *tracer) resolve(tid int, o operand, args [6]uint64) string {
	base := ""
	switch {
	case o.fd < 0 || int32(args[o.fd]) == unix.AT_FDCWD:
		base, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", tid))
	default:
		base, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[o.fd])))
	}
	if o.path < 0 {
		return base
	}
	name := readString(tid, args[o.path])
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(base, name)
}

func (tr *tracer) watches(path string) bool {
	return path == tr.watch || strings.HasPrefix(path, tr.watch+"/")
}

// relative returns path relative to the watched directory, with "*" for the number of a
// temporary file.
func (tr *tracer) relative(path string) string {
	if path == "" {
		return ""
	}
	rel, err := filepath.Rel(tr.watch, path)
	if err != nil {
		return path
	}
	return temporary.ReplaceAllString(rel, "$1$2*$3")
}

// readString reads a C string from the memory of a thread. It reads page by page,
// because the page after the string may not be mapped.
func readString(tid int, addr uint64) string {
	const page = 4096
	var text []byte
	for len(text) < 4*page {
		buf := make([]byte, page-addr%page)
		local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
		remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}
		n, err := unix.ProcessVMReadv(tid, local, remote, 0)
		if err != nil || n <= 0 {
			break
		}
		if i := bytes.IndexByte(buf[:n], 0); i >= 0 {
			return string(append(text, buf[:i]...))
		}
		text = append(text, buf[:n]...)
		addr += uint64(n)
	}
	return string(text)
}
