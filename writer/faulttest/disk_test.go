//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A fileSystem is a file system on which the state directory may be.
type fileSystem struct {
	name    string
	kind    string // the type, as for mount(2)
	size    int64  // of the image, in bytes
	options string
	mkfs    []string // the command that creates it, without its last argument, the image
}

func fileSystems() []fileSystem {
	ext4 := []string{"mkfs.ext4", "-q", "-F"}
	return []fileSystem{
		{"ext4-ordered", "ext4", 16 << 20, "data=ordered", ext4},
		{"ext4-writeback", "ext4", 16 << 20, "data=writeback,commit=300", ext4},
		{"xfs", "xfs", 320 << 20, "", []string{"mkfs.xfs", "-q"}}, // the minimum of mkfs.xfs
	}
}

// needDisks ends the test if no image can be mounted.
func needDisks(t *testing.T) {
	t.Helper()
	needLoop(t)
	for _, fs := range fileSystems() {
		fs.need(t)
	}
}

// needLoop ends the test if there are no loop devices.
func needLoop(t *testing.T) {
	t.Helper()
	testenv.Mount(t)
	testenv.Tool(t, "losetup")
	image := filepath.Join(t.TempDir(), "image")
	testenv.Must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<20))
	device, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		testenv.Missing(t, "a loop device; run as root with /dev/loop-control and the devices (%s)", strings.TrimSpace(string(device)))
	}
	run(t, "losetup", "--detach", strings.TrimSpace(string(device)))
}

// need ends the test if the file system cannot be created, or the kernel does not have
// it. It tries to mount something that is not a device: ENODEV means that the kernel
// does not know the type.
func (fs fileSystem) need(t *testing.T) {
	t.Helper()
	testenv.Tool(t, fs.mkfs[0])
	if err := unix.Mount("none", t.TempDir(), fs.kind, 0, ""); err == unix.ENODEV {
		testenv.Missing(t, "a kernel with %s", fs.kind)
	}
}

// A disk is an image on a loop device. It can simulate a loss of power.
type disk struct {
	fileSystem
	device string
	held   *os.File // the device, which the kernel frees when it is closed
	base   string   // a directory in memory
	root   string   // the mount point, in base
}

// newDisk creates an image and mounts it.
func (fs fileSystem) newDisk(t *testing.T) *disk {
	t.Helper()
	dir := testenv.TempDir(t) // in memory, which is fast
	d := &disk{fileSystem: fs, base: dir, root: filepath.Join(dir, "watched")}
	image := filepath.Join(dir, "image")
	testenv.Must(t, os.Mkdir(d.root, 0o755))
	testenv.Must(t, os.WriteFile(image, nil, 0o600))
	testenv.Must(t, os.Truncate(image, fs.size))
	run(t, append(fs.mkfs, image)...)
	d.attach(t, image)
	testenv.Must(t, d.mount())
	t.Cleanup(func() { d.remove(t, image) })
	return d
}

// attach attaches the image to a loop device. It keeps the device open and detaches
// it immediately: the kernel then frees it as soon as it is closed, even if this
// process is killed.
func (d *disk) attach(t *testing.T, image string) {
	t.Helper()
	d.device = strings.TrimSpace(run(t, "losetup", "--find", "--show", image))
	held, err := os.Open(d.device)
	testenv.Must(t, err)
	d.held = held
	run(t, "losetup", "--detach", d.device)
}

func (d *disk) remove(t *testing.T, image string) {
	if err := d.unmount(); err != nil {
		t.Error(err)
	}
	d.held.Close()
	if err := os.Remove(image); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	text, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, text)
	}
	return string(text)
}

func (d *disk) mount() error {
	if err := unix.Mount(d.device, d.root, d.kind, 0, d.options); err != nil {
		return fmt.Errorf("mount %s: %w", d.name, err)
	}
	return nil
}

// unmount unmounts the disk. It waits until no process uses it, because the threads
// of a killed process may end after the process has been waited for. It also drops
// the kernel's cache of the device.
func (d *disk) unmount() error {
	err := unix.Unmount(d.root, 0)
	for until := time.Now().Add(10 * time.Second); err == unix.EBUSY && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
		err = unix.Unmount(d.root, 0)
	}
	if err != nil {
		return fmt.Errorf("umount %s: %w", d.name, err)
	}
	return unix.IoctlSetInt(int(d.held.Fd()), unix.BLKFLSBUF, 0)
}

// remount unmounts and mounts the disk, as at the next boot: the file system replays
// its journal.
func (d *disk) remount() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// The ioctl that cuts a file system off from its disk (xfs_io(8), shutdown). It is
// not defined in golang.org/x/sys.
const (
	ioctlShutdown = 0x8004587d // FS_IOC_SHUTDOWN
	noLogFlush    = 2
)

// A powerLoss is a variant of a power loss. write writes the data that survives
// although it was not synced. dir is the state directory.
type powerLoss struct {
	name  string
	write func(d *disk, dir string) error
}

var (
	onlySynced  = powerLoss{"only synced data", func(*disk, string) error { return nil }}
	powerLosses = []powerLoss{onlySynced, {"the journal", (*disk).commitJournal}, {"the data", writeBack}}
)

// losePower writes the data that survives, and cuts the file system off from its
// disk.
func (d *disk) losePower(with powerLoss, dir string) error {
	if err := with.write(d, dir); err != nil {
		return err
	}
	root, err := os.Open(d.root)
	if err != nil {
		return err
	}
	defer root.Close()
	return unix.IoctlSetPointerInt(int(root.Fd()), ioctlShutdown, noLogFlush)
}

// commitJournal syncs an unrelated file. The file system then writes its journal,
// with all changes of names and sizes.
func (d *disk) commitJournal(string) error {
	f, err := os.OpenFile(filepath.Join(d.root, "neighbour"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return err
	}
	return f.Sync()
}

// writeBack writes the data of all files to the disk, without names and sizes.
func writeBack(_ *disk, dir string) error {
	entries, _ := os.ReadDir(dir) // the program may not have created it yet
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		err = unix.SyncFileRange(int(f.Fd()), 0, 0,
			unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// syncAll makes everything on the disk durable.
func (d *disk) syncAll() error {
	root, err := os.Open(d.root)
	if err != nil {
		return err
	}
	defer root.Close()
	return unix.Syncfs(int(root.Fd()))
}
