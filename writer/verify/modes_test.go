package verify

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The modes of files are checked only on file systems that store them.
func TestModes_file_systems(t *testing.T) {
	for name, magic := range map[string]int64{"vfat": unix.MSDOS_SUPER_MAGIC, "exfat": unix.EXFAT_SUPER_MAGIC, "cifs": unix.CIFS_SUPER_MAGIC, "smb3": unix.SMB2_SUPER_MAGIC} {
		if storesModes(magic) {
			t.Errorf("%s", name)
		}
	}
	for name, magic := range map[string]int64{"tmpfs": unix.TMPFS_MAGIC, "ext4": unix.EXT4_SUPER_MAGIC, "FUSE": unix.FUSE_SUPER_MAGIC, "9p": unix.V9FS_MAGIC} {
		if !storesModes(magic) {
			t.Errorf("%s", name)
		}
	}
	f, err := os.CreateTemp(testenv.TempDir(t), "")
	testenv.Must(t, err)
	defer f.Close()
	if !hasModes(f) {
		t.Error("the temporary directory has no modes")
	}
}
