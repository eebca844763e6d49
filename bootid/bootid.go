// Package bootid finds the ID that Linux gives each boot.
//
// The host takes a status without the current boot ID for one from before a
// reboot, so every artifact that is written in a boot carries it.
package bootid

import (
	"os"
	"strings"
)

// Path is where the kernel keeps the ID of the current boot, 36 characters of
// UUID and a newline (random(4), boot_id).
const Path = "/proc/sys/kernel/random/boot_id"

// Read returns the ID of the current boot, without its newline. It fails where
// /proc is not mounted.
func Read() (string, error) {
	text, err := os.ReadFile(Path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}
