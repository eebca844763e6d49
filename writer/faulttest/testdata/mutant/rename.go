// A mutant gets this file in the package that it changes.
package writer

import (
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// faultRename gives the temporary .NAMEnnn its NAME without a sync.
func faultRename(t *renameio.PendingFile) error {
	dir, base := filepath.Split(t.Name())
	name := strings.TrimRight(strings.TrimPrefix(base, "."), "0123456789")
	return unix.Renameat(unix.AT_FDCWD, t.Name(), unix.AT_FDCWD, dir+name)
}

// faultRenameThenSync syncs it after the rename.
func faultRenameThenSync(t *renameio.PendingFile) error {
	if err := faultRename(t); err != nil {
		return err
	}
	return t.Sync()
}
