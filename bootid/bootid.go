// Package bootid reads the ID that Linux gives each boot.
//
// Every artifact contains the ID of the boot in which it was written: a host treats
// a status without the current boot ID as older than the last reboot.
package bootid

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Path is the file with the ID of the current boot: a UUID of 36 characters and a
// newline (random(4), boot_id).
const Path = "/proc/sys/kernel/random/boot_id"

// errEmpty is the error of a container that hides the file by mounting /dev/null
// over it.
var errEmpty = errors.New("the file is empty, as if it were masked")

// Read returns the ID of the current boot, without its newline. Its errors are
// *fs.PathErrors.
//
// It makes three system calls. os.ReadFile would start the runtime's poller first,
// which costs a short command more than the rest of its work.
func Read() (string, error) {
	fd, err := unix.Open(Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: Path, Err: err}
	}
	defer unix.Close(fd)
	var text [64]byte // the kernel gives all of it at once
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: Path, Err: err}
	}
	id := strings.TrimSpace(string(text[:n]))
	if id == "" {
		return "", &fs.PathError{Op: "read", Path: Path, Err: errEmpty}
	}
	return id, nil
}
