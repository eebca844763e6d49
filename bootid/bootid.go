// Package bootid finds the ID that Linux gives each boot.
//
// The host takes a status without the current boot ID for one from before a
// reboot, so every artifact that is written in a boot carries it.
package bootid

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Path is where the kernel keeps the ID of the current boot, 36 characters of
// UUID and a newline (random(4), boot_id).
const Path = "/proc/sys/kernel/random/boot_id"

// Read returns the ID of the current boot, without its newline. It fails where
// /proc is not mounted. It reads with three system calls: os.ReadFile starts the
// runtime's poller first, which costs a command that ends at once more than the
// rest of its work.
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
	return strings.TrimSpace(string(text[:n])), nil
}
