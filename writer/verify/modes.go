package verify

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// checkModes checks the modes, links and owners of the files. On a file system without
// modes it does not check them, because no repair can change them.
func (c *checker) checkModes() error {
	var first *file
	for _, name := range fileNames {
		f := c.files[name]
		if f == nil {
			continue
		}
		want := modeOf(name)
		if !f.hasValidMode(want) && hasModes(f.File) {
			c.add(name, 0, true, "mode is %04o; expected %04o", f.info.Mode().Perm(), want)
		}
		if f.info.Sys().(*syscall.Stat_t).Nlink > 1 {
			c.add(name, 0, false, "the file has a second hard link, perhaps outside the directory")
		}
		if first == nil {
			first = f
		} else if f.owner() != first.owner() {
			c.add(name, 0, false, "user %d owns the file, but user %d owns %s", f.owner(), first.owner(), first.info.Name())
		}
	}
	return nil
}

// hasModes reports whether the file system of a file stores modes. If it does not, all
// files have the mode that was given when it was mounted.
func hasModes(f *os.File) bool {
	var st unix.Statfs_t
	if dirfs.Retry(func() error { return unix.Fstatfs(int(f.Fd()), &st) }) != nil {
		return true
	}
	return storesModes(int64(st.Type))
}

// storesModes reports whether file systems of a type (statfs(2)) store modes. Some FUSE
// file systems do not either, but do not have a type of their own.
func storesModes(fileSystem int64) bool {
	switch fileSystem {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return false
	}
	return true
}

// hasValidMode reports whether a file has the mode want. The Python command left
// the mode to the umask, so its files are invalid only if other users may write to
// them.
func (f *file) hasValidMode(want fs.FileMode) bool {
	mode := f.info.Mode().Perm()
	if f.native {
		return mode == want
	}
	return mode == want || mode&0o022 == 0
}

// modeOf returns the mode that a file must have. Only the owner may open the seq file and
// the writer lock, because any process that opens them can hold the lock.
func modeOf(name string) fs.FileMode {
	if name == writer.SeqName || name == writer.WriterLockName {
		return 0o600
	}
	return 0o644
}

// repairModes sets the modes that checkModes found to be invalid.
func (c *checker) repairModes() error {
	for _, name := range fileNames {
		f := c.files[name]
		if f == nil || f.hasValidMode(modeOf(name)) {
			continue
		}
		if err := setMode(c.dir, name); err != nil {
			return err
		}
	}
	return nil
}

// setMode opens the file again, because a repair may have replaced it.
func setMode(dir, name string) error {
	f, err := dirfs.Open(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chmod(modeOf(name))
}
