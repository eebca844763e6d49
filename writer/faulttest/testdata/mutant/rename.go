// This file is added to the package that a mutant changes.
package writer

import (
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// faultRename renames the temporary file .NAMEnnn to NAME without a sync.
func faultRename(t *renameio.PendingFile) error {
	dir, base := filepath.Split(t.Name())
	name := strings.TrimRight(strings.TrimPrefix(base, "."), "0123456789")
	return unix.Renameat(unix.AT_FDCWD, t.Name(), unix.AT_FDCWD, dir+name)
}

// faultRenameThenSync syncs the file only after the rename.
func faultRenameThenSync(t *renameio.PendingFile) error {
	if err := faultRename(t); err != nil {
		return err
	}
	return t.Sync()
}
