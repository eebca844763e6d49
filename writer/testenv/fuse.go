package testenv

import (
	"bytes"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Bindfs mounts dir at mountPoint with bindfs(1), a FUSE file system, which has no
// RENAME_EXCHANGE. The calling test must be in a child process of [AloneWithMounts].
// Bindfs ends the test if bindfs is not installed, or FUSE is not available.
func Bindfs(t testing.TB, dir, mountPoint string, flags ...string) {
	t.Helper()
	Tool(t, "bindfs")
	before := device(t, mountPoint)
	cmd := exec.Command("bindfs", append(flags, "-f", dir, mountPoint)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	Must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = unix.Unmount(mountPoint, unix.MNT_DETACH) })
	for deadline := time.Now().Add(10 * time.Second); device(t, mountPoint) == before; {
		select {
		case err := <-ended:
			Missing(t, "FUSE; run as root with /dev/fuse (bindfs: %v: %s)", err, bytes.TrimSpace(text.Bytes()))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("bindfs does not mount")
		}
	}
}

// device returns the ID of the file system at path.
func device(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	Must(t, unix.Stat(path, &st))
	return uint64(st.Dev)
}
