package writer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestExposedNamesWhoElseMayWrite: an operator is to know who could have
// forged what stands in a state directory.
func TestExposedNamesWhoElseMayWrite(t *testing.T) {
	for _, c := range []struct {
		mode os.FileMode
		uid  int
		want string
	}{
		{0o755, os.Getuid(), ""},
		{0o700, os.Getuid(), ""},
		{0o757, os.Getuid(), "everybody"},
		{0o775, os.Getuid(), fmt.Sprintf("group %d", os.Getgid())},
		{0o755, 65534, "user 65534"},
	} {
		path := filepath.Join(t.TempDir(), "d")
		check(t, os.Mkdir(path, 0o700))
		if c.uid != os.Getuid() {
			if os.Getuid() != 0 {
				continue // only root gives a directory away
			}
			check(t, os.Chown(path, c.uid, -1))
		}
		check(t, os.Chmod(path, c.mode))
		d := In(path)
		if who := d.Exposed(); who != "" {
			t.Errorf("%s before the directory was opened", who)
		}
		_, _ = d.Status.Read() // there is none
		if who := d.Exposed(); who != c.want {
			t.Errorf("mode %o of user %d: %q, expected %q", c.mode, c.uid, who, c.want)
		}
		d.Close()
	}
}
